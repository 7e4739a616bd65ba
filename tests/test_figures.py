from threading import Event, Thread
from time import sleep

from matplotlib import rcParams
from matplotlib.figure import Figure

from lymphocytosis.figures import entitle, in_style


@in_style
def draw(note=""):
    figure = Figure(figsize=(4, 3))
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1])
    entitle(figure, "A title", note)
    return figure


def test_the_style_holds_while_a_figure_is_drawn_and_no_longer():
    def settings():
        return {name: value for name, value in rcParams.items() if name != "backend"}

    before = settings()
    axis = draw().axes[0]
    assert axis.lines[0].get_color() == "#0072b2"
    assert not axis.spines["top"].get_visible()
    assert settings() == before


def test_the_function_keeps_its_name_and_its_arguments():
    # Kedro shows the one and reads the other.
    assert draw.__name__ == "draw"
    assert draw.__wrapped__.__code__.co_varnames[0] == "note"


def test_a_long_note_is_broken_into_lines_that_fit():
    figure = draw("a word " * 60)
    figure.draw_without_rendering()
    text = figure._supxlabel
    assert text.get_window_extent().x1 <= figure.bbox.x1


def test_threads_draw_one_after_the_other():
    # Else one would take away the style while another still draws.
    begun, done = Event(), []

    @in_style
    def slow():
        begun.set()
        sleep(0.1)
        done.append("slow")
        return Figure()

    thread = Thread(target=slow)
    thread.start()
    begun.wait()
    draw()
    done.append("fast")
    thread.join()
    assert done == ["slow", "fast"]
