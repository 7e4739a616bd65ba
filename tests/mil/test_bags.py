import numpy as np
import pyarrow as pa
import pytest
import torch

from lymphocytosis.errors import UserError
from lymphocytosis.mil.bags import gather_bags, pack


def by_hand(table, patient_id, view):
    """A bag's vectors, in the table's order, by pandas."""
    frame = table.to_pandas()
    chosen = frame[(frame["patient_id"] == patient_id) & (frame["view"] == view)]
    return np.stack(chosen["embedding"].to_list())


def assert_bags_by_hand(bags, table, patients):
    for b, view in enumerate(bags.view):
        expected = by_hand(table, patients["patient_id"][bags.patient[b]], view)
        found = bags.instances[bags.first[b] : bags.first[b] + bags.size[b]]
        np.testing.assert_array_equal(found, expected)


class TestGathering:
    def test_every_patient_has_a_bag_in_every_view(self, cohort):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        assert len(bags.size) == len(bags.view) == 3 * len(patients)
        assert_bags_by_hand(bags, table, patients)

    def test_the_order_of_rows_does_not_matter_to_who_owns_them(self, cohort):
        patients, table = cohort()
        shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
        bags = gather_bags(shuffled, patients)
        assert_bags_by_hand(bags, shuffled, patients)

    def test_chunks_are_joined(self, cohort):
        patients, table = cohort()
        pieces = pa.concat_tables([table.slice(0, 7), table.slice(7)])
        assert torch.equal(
            gather_bags(pieces, patients).instances, gather_bags(table, patients).instances
        )

    def test_a_slice_does_not_bring_its_neighbours(self, cohort):
        patients, table = cohort()
        padded = pa.concat_tables([table.slice(0, 3), table]).slice(3)
        assert torch.equal(
            gather_bags(padded, patients).instances, gather_bags(table, patients).instances
        )

    def test_a_patient_without_a_label_is_minus_one(self, cohort):
        patients, table = cohort()
        patients.loc[4, "label"] = None
        assert gather_bags(table, patients).label[4] == -1

    @pytest.mark.parametrize("change", ["fewer cells", "another patient"])
    def test_embeddings_of_another_cohort_are_refused(self, cohort, change):
        patients, table = cohort()
        if change == "fewer cells":
            table = table.slice(3)
        else:
            patients.loc[0, "patient_id"] = "P99"
        with pytest.raises(UserError, match="Run embed again"):
            gather_bags(table, patients)


class TestPacking:
    def test_a_batch_holds_the_chosen_bags_and_nothing_else(self, cohort):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        chosen = np.array([9, 0, 31])
        batch = pack(bags, chosen)
        assert batch.label.tolist() == [bags.label[bags.patient[b]] for b in chosen]
        assert len(batch.instances) == bags.size[chosen].sum()
        for place, b in enumerate(chosen):
            expected = by_hand(table, patients["patient_id"][bags.patient[b]], bags.view[b])
            np.testing.assert_array_equal(batch.instances[batch.bag == place], expected)
            row = patients.iloc[bags.patient[b]]
            np.testing.assert_allclose(
                batch.clinical[place], [row["age_years"], row["lymphocyte_count"]], rtol=1e-6
            )
