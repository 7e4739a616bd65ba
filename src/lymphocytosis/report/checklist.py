"""Reporting checklists: which items the run fills in, and which a person must.

Sources: Collins et al. 2024, TRIPOD+AI statement, BMJ 385:e078378; Bossuyt et al. 2015, STARD 2015,
BMJ 351:h5527; Sounderajah et al. 2025, STARD-AI, Nature Medicine 31:3283. The items are named, not
quoted; the numbers are those of TRIPOD+AI and of STARD 2015, and `AI` marks what STARD-AI adds.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Item(NamedTuple):
    """An item of a checklist.

    Attributes:
        number: in its checklist.
        topic: what it asks for.
        facts: names of the facts that answer it, or part of it; without any, a person must.
    """

    number: str
    topic: str
    facts: tuple[str, ...] = ()


TRIPOD_AI = (
    Item("1", "Title names the model, the population and the outcome"),
    Item("2", "Abstract by TRIPOD+AI for abstracts"),
    Item("3a", "Healthcare context and rationale"),
    Item("3b", "Target population, purpose and intended users"),
    Item("3c", "Known health inequalities between groups"),
    Item("4", "Objectives: development, evaluation or both"),
    Item("5a", "Sources of data, and why these"),
    Item("5b", "Dates of the data"),
    Item("6a", "Setting, number and location of centres"),
    Item("6b", "Eligibility criteria"),
    Item("6c", "Treatments received, if relevant"),
    Item("7", "Data preparation and quality checks", ("preparation",)),
    Item("8a", "Outcome, how and when it was assessed"),
    Item("8b", "Qualification of those who assessed the outcome"),
    Item("8c", "Blinding of the outcome's assessment"),
    Item("9a", "Choice of predictors", ("inputs",)),
    Item("9b", "Definition and measurement of predictors", ("inputs",)),
    Item("9c", "Qualification of those who assessed subjective predictors"),
    Item("10", "Sample size, and why it is enough", ("size",)),
    Item("11", "Missing data", ("missing",)),
    Item("12a", "How the data were used, and partitioned", ("partition",)),
    Item("12b", "How predictors were handled", ("inputs", "preparation")),
    Item("12c", "Type of model, building steps, hyperparameters, internal validation", ("model",)),
    Item("12d", "Differences between clusters, such as hospitals"),
    Item("12e", "Measures of performance", ("measures",)),
    Item("12f", "Model updating, such as recalibration", ("calibration",)),
    Item("12g", "How predictions were calculated for evaluation", ("code",)),
    Item("13", "Class imbalance", ("imbalance",)),
    Item("14", "Fairness: approaches, and why", ("subgroups",)),
    Item("15", "Output of the model, thresholds and how they were chosen", ("output",)),
    Item("16", "Differences between the data of training and of evaluation", ("apart",)),
    Item("17", "Ethical approval and consent"),
    Item("18a", "Funding"),
    Item("18b", "Conflicts of interest"),
    Item("18c", "Protocol"),
    Item("18d", "Registration"),
    Item("18e", "Availability of the data"),
    Item("18f", "Availability of the code", ("code",)),
    Item("19", "Patient and public involvement"),
    Item("20a", "Flow of participants", ("flow",)),
    Item("20b", "Characteristics of participants", ("characteristics",)),
    Item("20c", "Comparison of development and evaluation data", ("apart",)),
    Item("21", "Participants and events in each analysis", ("size",)),
    Item("22", "The full model, for use by others", ("specification",)),
    Item("23a", "Performance, with intervals, in key subgroups too", ("performance", "subgroups")),
    Item("23b", "Heterogeneity between clusters"),
    Item("24", "Results of model updating", ("calibration",)),
    Item("25", "Interpretation, in view of objectives and other studies"),
    Item("26", "Limitations"),
    Item("27a", "How poor or missing input is to be handled", ("missing",)),
    Item("27b", "Interaction and expertise that users need"),
    Item("27c", "Next steps: applicability and generalisability"),
)
STARD_AI = (
    Item("1", "Title or abstract names a measure of accuracy"),
    Item("2", "Structured abstract"),
    Item("3", "Background, intended use and clinical role of the index test"),
    Item("4", "Objectives and hypotheses"),
    Item("5", "Prospective or retrospective collection"),
    Item("6", "Eligibility criteria"),
    Item("7", "How eligible participants were identified"),
    Item("8", "Where and when"),
    Item("9", "Consecutive, random or convenience series"),
    Item("AI", "Source, collection and annotation of the data"),
    Item("AI", "Preparation of the data", ("preparation",)),
    Item("AI", "Partition into training and test", ("partition",)),
    Item("10a", "Index test, to be repeated by others", ("model", "code")),
    Item("AI", "Version, input, output and computing environment of the index test", ("code",)),
    Item("10b", "Reference standard, to be repeated by others"),
    Item("11", "Why this reference standard"),
    Item("12a", "Cut-offs of the index test, and how they were chosen", ("output",)),
    Item("12b", "Cut-offs of the reference standard"),
    Item("13a", "Whether readers of the index test knew clinical data and diagnosis", ("inputs",)),
    Item("13b", "Whether assessors of the reference standard knew the index test"),
    Item("14", "Methods for estimating accuracy", ("measures",)),
    Item("15", "Indeterminate results of either test", ("undecided",)),
    Item("16", "Missing data of either test", ("missing",)),
    Item("17", "Analyses of variability", ("measures",)),
    Item("18", "Intended sample size"),
    Item("AI", "Bias and fairness of the algorithm", ("subgroups",)),
    Item("19", "Flow of participants", ("flow",)),
    Item("20", "Baseline characteristics", ("characteristics",)),
    Item("21a", "Severity of disease in those with it"),
    Item("21b", "Other diagnoses in those without it"),
    Item("22", "Time and treatment between index test and reference standard"),
    Item("23", "Cross tabulation of both tests", ("confusion",)),
    Item("24", "Accuracy, with intervals", ("performance",)),
    Item("AI", "Analysis of the errors: which patients were called wrong", ("errors",)),
    Item("25", "Adverse events"),
    Item("26", "Limitations"),
    Item("27", "Implications for practice"),
    Item("28", "Registration"),
    Item("29", "Protocol"),
    Item("30", "Funding"),
    Item("AI", "Commercial interests; availability of data, code and model"),
)


def fill(facts: Mapping[str, str]) -> list[dict[str, object]]:
    """Fill the checklists in.

    Args:
        facts: what the run tells, by name; an empty text where it does not.

    Returns:
        For each checklist: name; items: number, topic, answer (empty: a person must); filled, how
        many have one.
    """
    filled = []
    for name, items in (("TRIPOD+AI", TRIPOD_AI), ("STARD-AI", STARD_AI)):
        answered = [
            {
                "number": item.number,
                "topic": item.topic,
                "answer": " ".join(facts[fact] for fact in item.facts if facts.get(fact)),
            }
            for item in items
        ]
        number = sum(bool(item["answer"]) for item in answered)
        filled.append({"name": name, "items": answered, "filled": number})
    return filled
