import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from lymphocytosis.errors import UserError
from lymphocytosis.mil import neural
from lymphocytosis.mil.aggregators import AGGREGATORS
from lymphocytosis.mil.bags import gather_bags, pack
from lymphocytosis.mil.classifiers import build_classifier
from lymphocytosis.mil.epochs import cpu_state
from lymphocytosis.mil.turns import run_in_turns


def train(bags, train, validation, mil, seed, fabric):
    classifier = build_classifier(mil, bags.instances.shape[1], seed, fabric.device)
    [(_, history)] = run_in_turns([classifier.fit(bags, train, validation, fabric)], at_once=1)
    return cpu_state(classifier), history


FABRIC = Fabric(accelerator="cpu", devices=1)


TRAIN, VALIDATION = np.arange(16), np.arange(16, 24)


def plain_training(patients, table, mil, seed):
    """One classifier's training written down once more: patient by patient, layer by layer.

    Only the starting weights are taken from the project. Bags are cut out with pandas, the layers
    are torch's own, BatchNorm sees a batch's cells one bag after the other, balanced accuracy and
    the plateau rule are spelt out.
    """
    start = build_classifier(mil, 5, seed).state_dict()
    embed = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU())
    head = nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))
    embed.load_state_dict({k[18:]: v for k, v in start.items() if k.startswith("special_")})
    for ours, theirs in zip((0, 2, 4), (0, 3, 6), strict=True):
        head[ours].weight.data.copy_(start[f"head.{theirs}.weight"])
        head[ours].bias.data.copy_(start[f"head.{theirs}.bias"])

    frame = table.to_pandas()
    values = patients[["age_years", "lymphocyte_count"]].to_numpy()
    low, high = values[TRAIN].min(axis=0), values[TRAIN].max(axis=0)
    bags = []
    for p, patient_id in enumerate(patients["patient_id"]):
        for view in ("original", "horizontal", "vertical"):
            mine = frame[(frame["patient_id"] == patient_id) & (frame["view"] == view)]
            cells = torch.tensor(np.stack(mine["embedding"].to_list()))
            clinical = torch.tensor((values[p] - low) / (high - low), dtype=torch.float32)
            bags.append((p, cells, clinical, float(patients["label"][p])))

    def forward(chosen):
        embedded = embed(torch.cat([cells for _, cells, _, _ in chosen]))
        pooled = [part.mean(0) for part in embedded.split([len(c) for _, c, _, _ in chosen])]
        joined = [torch.cat([mean, bag[2]]) for mean, bag in zip(pooled, chosen, strict=True)]
        return head(torch.stack(joined))[:, 0]

    def balanced_accuracy(patients_asked):
        embed.eval()
        asked = [bag for bag in bags if bag[0] in patients_asked]
        with torch.no_grad():
            said = forward(asked) >= 0
        truth = torch.tensor([label for _, _, _, label in asked]) == 1
        return ((said[truth]).float().mean() + (~said[~truth]).float().mean()).item() / 2

    of_train = [b for b, bag in enumerate(bags) if bag[0] in TRAIN]
    optimizer = torch.optim.Adam(
        [*embed.parameters(), *head.parameters()],
        lr=mil.learning_rate,
        weight_decay=mil.weight_decay,
    )
    order = torch.Generator().manual_seed(seed)
    best, waited, history, kept = -1.0, 0, [], None
    for _ in range(mil.epochs):
        embed.train()
        shuffled = [of_train[i] for i in torch.randperm(len(of_train), generator=order)]
        losses, said_while_training = [], []
        for first in range(0, len(shuffled), mil.batch_size):
            chosen = [bags[b] for b in shuffled[first : first + mil.batch_size]]
            label = torch.tensor([label for _, _, _, label in chosen])
            probability = torch.sigmoid(forward(chosen))
            per_bag = -(label * probability.log() + (1 - label) * (1 - probability).log())
            optimizer.zero_grad()
            per_bag.mean().backward()
            optimizer.step()
            losses += per_bag.tolist()
            said_while_training += zip(label.tolist(), (probability >= 0.5).tolist(), strict=True)
        rate = optimizer.param_groups[0]["lr"]
        score = balanced_accuracy(VALIDATION)
        rights = [[said == bool(t) for t, said in said_while_training if t == k] for k in (0, 1)]
        history.append((np.mean(losses), np.mean([np.mean(r) for r in rights]), score, rate))
        if score > best:
            best, waited = score, 0
            kept = [p.detach().clone() for p in (*embed.parameters(), *head.parameters())]
        else:
            waited += 1
        if waited > mil.scheduler.patience:
            optimizer.param_groups[0]["lr"] = rate * mil.scheduler.factor
            waited = 0
    return kept, np.array(history)


class TestOneClassifier:
    # With the greater signal the plain loop goes on where no later epoch can be kept.
    @pytest.mark.parametrize(("weight_decay", "signal"), [(0.0, 0.4), (0.05, 0.4), (0.0, 1.2)])
    def test_it_equals_a_plain_loop(self, cohort, mil, weight_decay, signal):
        patients, table = cohort(signal=signal)
        settings = mil(epochs=12, weight_decay=weight_decay)
        state, history = train(gather_bags(table, patients), TRAIN, VALIDATION, settings, 3, FABRIC)
        kept, expected = plain_training(patients, table, settings, 3)
        columns = ["loss", "train_balanced_accuracy", "validation_balanced_accuracy"]
        np.testing.assert_allclose(
            history[[*columns, "learning_rate"]], expected[: len(history)], rtol=1e-3, atol=1e-6
        )
        if signal == 0.4:
            assert len(history) == 12
            assert history["learning_rate"].min() < 0.02  # the plateau rule was put to work
        else:
            assert len(history) < 12
            assert history["validation_balanced_accuracy"].iloc[-1] == 1
        ours = [v for k, v in state.items() if k.endswith(("weight", "bias"))]
        for mine, theirs in zip(ours, kept, strict=True):
            # The bias before BatchNorm has no gradient but rounding, which Adam blows up.
            if mine.shape == (8,) and mine is ours[1]:
                continue
            torch.testing.assert_close(mine, theirs, rtol=5e-3, atol=5e-4)

    @pytest.mark.parametrize("fusion", ["late", "mixture"])
    def test_every_expert_has_a_loss_of_its_own(self, cohort, mil, fusion):
        patients, table = cohort(signal=0.4)
        bags = gather_bags(table, patients)
        # All bags are one batch, so that every epoch is one step.
        settings = mil(fusion=fusion, epochs=4, batch_size=100)
        _, history = train(bags, TRAIN, VALIDATION, settings, 3, FABRIC)

        model = build_classifier(settings, 5, 3)
        model.fit_clinical_scale(bags.clinical[:16])
        optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
        batch = pack(bags, np.arange(3 * 16))
        clinical = (batch.clinical - model.clinical_low) / model.clinical_span
        losses = []
        for _ in range(settings.epochs):
            embedded = model.special_embedding(batch.instances)
            pooled = torch.stack([embedded[batch.bag == b].mean(dim=0) for b in range(48)])
            first, second = model.head(pooled)[:, 0], model.clinical_head(clinical)[:, 0]
            if fusion == "late":
                said = [torch.sigmoid(first + second)]
            else:
                gate = torch.sigmoid(model.gate(torch.cat([pooled, clinical], dim=1))[:, 0])
                said = [gate * torch.sigmoid(first) + (1 - gate) * torch.sigmoid(second)]
            said += [torch.sigmoid(first), torch.sigmoid(second)]
            right = [torch.where(batch.label == 1, p, 1 - p) for p in said]
            loss = sum(-p.log().mean() for p in right)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        np.testing.assert_allclose(history["loss"], losses, rtol=1e-4)

    def test_weights_decay(self, cohort, mil):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        size = {}
        for decay in (0.0, 1.0):
            settings = mil(weight_decay=decay, epochs=8)
            state, _ = train(bags, TRAIN, VALIDATION, settings, 3, FABRIC)
            size[decay] = sum(v.square().sum() for k, v in state.items() if k.startswith("head"))
        assert size[1.0] < size[0.0]

    @pytest.mark.parametrize("aggregator", list(AGGREGATORS))
    def test_every_aggregator_learns_a_plain_signal(self, cohort, mil, aggregator):
        patients, table = cohort(signal=3.0)
        settings = mil(aggregator=aggregator, inputs="pictures", epochs=8)
        state, history = train(gather_bags(table, patients), TRAIN, VALIDATION, settings, 3, FABRIC)
        assert history["validation_balanced_accuracy"].max() > 0.9
        assert all(value.isfinite().all() for value in state.values())

    @pytest.mark.parametrize("aggregator", list(AGGREGATORS))
    def test_half_precision_trains_too(self, cohort, mil, aggregator):
        patients, table = cohort()
        fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
        state, _ = train(
            gather_bags(table, patients),
            TRAIN,
            VALIDATION,
            mil(aggregator=aggregator, fusion="mixture", epochs=1),
            3,
            fabric,
        )
        assert all(value.isfinite().all() for value in state.values())

    def test_the_first_of_the_best_epochs_is_kept(self, cohort, mil):
        patients, table = cohort(signal=0.4)
        _, history = train(
            gather_bags(table, patients), TRAIN, VALIDATION, mil(epochs=10), 3, FABRIC
        )
        score = history["validation_balanced_accuracy"]
        assert history["kept"].sum() == 1
        assert history["kept"].idxmax() == np.flatnonzero(score == score.max())[0]

    def test_the_mean_of_both_parts_may_be_monitored(self, cohort, mil):
        patients, table = cohort(signal=0.4)
        _, history = train(
            gather_bags(table, patients), TRAIN, VALIDATION,
            mil(epochs=10, monitor="train_and_validation"), 3, FABRIC,
        )  # fmt: skip
        mean = (history["validation_balanced_accuracy"] + history["train_balanced_accuracy"]) / 2
        assert mean[history["kept"]].iloc[0] == mean.max()

    def test_same_seed_same_bits_with_dropout(self, cohort, mil):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        runs = []
        for disturbance in (1, 2):
            torch.manual_seed(disturbance)  # torch's global generator must not matter
            runs.append(train(bags, TRAIN, VALIDATION, mil(dropout=0.3), 3, FABRIC))
        assert runs[0][1].equals(runs[1][1])
        assert all(torch.equal(runs[0][0][name], runs[1][0][name]) for name in runs[0][0])

    def test_validation_patients_never_train(self, cohort, mil):
        patients, table = cohort()
        _, honest = train(gather_bags(table, patients), TRAIN, VALIDATION, mil(), 3, FABRIC)
        patients.loc[VALIDATION, ["age_years", "lymphocyte_count"]] *= 2
        patients.loc[VALIDATION, "label"] = 1 - patients.loc[VALIDATION, "label"]
        _, changed = train(gather_bags(table, patients), TRAIN, VALIDATION, mil(), 3, FABRIC)
        epochs = min(len(honest), len(changed))  # a perfect score ends a training
        assert honest["loss"][:epochs].equals(changed["loss"][:epochs])

    def test_a_loss_that_is_no_number_is_refused(self, cohort, mil):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        bags.instances[0] = float("nan")
        with pytest.raises(
            UserError, match=r"loss of epoch 1, batch \d+ is nan.*mil\.learning_rate"
        ):
            train(bags, TRAIN, VALIDATION, mil(), 3, FABRIC)

    def test_bags_of_one_cell_can_be_trained_on(self, cohort, mil):
        patients, table = cohort(signal=1.0)
        first = table.to_pandas().groupby(["patient_id", "view"]).head(1).index.to_numpy()
        patients["cell_count"] = 1
        bags = gather_bags(table.take(first), patients)
        # 17 patients in 3 views: 51 bags, so the last batch of five would hold one.
        state, _ = train(bags, np.arange(17), VALIDATION, mil(), 3, FABRIC)
        assert all(value.isfinite().all() for value in state.values())


class TestStopping:
    def test_training_stops_where_no_later_epoch_can_be_kept(self, cohort, mil):
        patients, table = cohort(signal=1.2)
        settings = mil(epochs=10, dropout=0.3, batch_size=12)
        _, history = train(gather_bags(table, patients), TRAIN, VALIDATION, settings, 3, FABRIC)
        score = history["validation_balanced_accuracy"]
        assert 1 < len(history) < 10
        assert (score == 1).tolist() == [False] * (len(history) - 1) + [True]
        assert history["kept"].equals(score == 1)

    def test_training_goes_on_below_it(self, cohort, mil):
        patients, table = cohort(signal=0.6)
        settings = mil(epochs=10, dropout=0.3, batch_size=12)
        _, history = train(gather_bags(table, patients), TRAIN, VALIDATION, settings, 3, FABRIC)
        assert history["validation_balanced_accuracy"].max() < 1
        assert len(history) == 10


@pytest.mark.gpu
def test_a_step_never_waits_for_the_device(cohort, mil, monkeypatch):
    patients, table = cohort()
    fabric = Fabric(accelerator="cuda", devices=1)
    bags = gather_bags(table, patients).on(fabric.device)
    train_epoch = neural.train_epoch

    def watched(model, optimizer, fabric, batches):
        def each():
            for batch in batches:
                torch.cuda.set_sync_debug_mode("error")
                yield batch
            torch.cuda.set_sync_debug_mode("default")

        return train_epoch(model, optimizer, fabric, each())

    monkeypatch.setattr(neural, "train_epoch", watched)
    _, history = train(bags, TRAIN, VALIDATION, mil(dropout=0.3), 3, fabric)
    assert len(history) == mil().epochs
