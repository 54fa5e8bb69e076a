"""``train --data``: data sets in the layout of CLEVR v1.0 and CLEVR-CoGenT."""

import json
import shutil

import pytest

from featurewise.study.run import read_run
from featurewise.systems.reasoning.film import SYSTEM
from featurewise.worlds.clevr import Recipe, encode, write_dataset
from featurewise.worlds.clevr.data import object_table
from featurewise.worlds.clevr.splits import Folder

SIZE = {"width": 30, "height": 20, "samples": 1, "questions_per_image": 4}


@pytest.fixture(scope="module")
def cogent(tmp_path_factory):
    """A data set with the splits of CLEVR-CoGenT, of a few images each."""
    root = tmp_path_factory.mktemp("cogent")
    for seed, (split, count, condition) in enumerate(
        [("trainA", 12, "A"), ("valA", 2, "A"), ("valB", 10, "B")]
    ):
        write_dataset(root, count=count, seed=seed, split=split, cogent=condition, **SIZE)
    return root


def trained(run, folder, *words):
    words = ("train", "film", "--preset", "tiny", "--steps", 3, "--out", folder, *words)
    return run(*words)


def test_cogent_is_evaluated_on_its_validation_split(run, cogent, tmp_path):
    shown = trained(run, tmp_path / "run", "--data", cogent)
    assert "held-out accuracy" in shown.text
    settings = read_run(tmp_path / "run").settings
    assert settings["folder"] == {"path": str(cogent), "split": "trainA"}
    table = json.loads(run("evaluate", tmp_path / "run", "--json").output)
    assert table["rows"][0]["scores"][0]["count"] == 2 * 4
    assert str(cogent) in table["data"] and table["columns"] == ["film"]
    other = ("evaluate", tmp_path / "run", "--data", cogent, "--split", "valB", "--json")
    assert json.loads(run(*other).output)["rows"][0]["scores"][0]["count"] == 10 * 4
    again = trained(run, tmp_path / "run", "--data", cogent)
    assert "held-out accuracy" in again.text


def test_a_split_without_validation_split_holds_out_its_last_tenth(run, cogent, tmp_path):
    for arm in ("film", "shuffled", "question"):
        folder = tmp_path / arm
        trained(run, folder, "--data", cogent, "--split", "valB", "--arm", arm)
        table = json.loads(run("evaluate", folder, "--json").output)
        assert table["rows"][0]["scores"][0]["count"] == 1 * 4


def test_batches_come_from_the_files(cogent):
    from dataclasses import replace

    config = replace(SYSTEM.preset("tiny"), folder=Folder(path=str(cogent), split="trainA"))
    batch = SYSTEM.data(config, 0).batch(0)
    assert batch.images.shape == (8, 3, 20, 30) and len(batch.answers) == 8 * 4
    texts = {
        tuple(encode(entry["question"]))
        for entry in json.loads(
            (cogent / "questions/CLEVR_trainA_questions.json").read_text()
        )["questions"]
    }  # fmt: skip
    for ids, length in zip(batch.questions.tolist(), batch.lengths.tolist(), strict=True):
        assert tuple(ids[:length]) in texts
    scenes = Recipe(seed=0, cogent="A", **SIZE).scenes(0, 12)
    known = object_table(scenes)[..., :4].tolist()
    assert all(shown[:, :4].tolist() in known for shown in batch.objects)


def test_without_scenes_there_are_no_object_labels(run, cogent, tmp_path):
    from dataclasses import replace

    root = shutil.copytree(cogent, tmp_path / "data")
    shutil.rmtree(root / "scenes")
    config = replace(SYSTEM.preset("tiny"), folder=Folder(path=str(root), split="trainA"))
    assert SYSTEM.data(config, 0).batch(0).objects is None
    trained(run, tmp_path / "run", "--data", root)


def test_unusable_data_is_refused(fails, cogent, data, tmp_path):
    words = ("train", "film", "--preset", "tiny", "--out", tmp_path / "run")
    line = fails(*words, "--data", data)
    assert "no split train or trainA; choose one with --split: val" in line
    assert "did you mean valB" in fails(*words, "--data", cogent, "--split", "valC")
    assert "holds no questions/" in fails(*words, "--data", tmp_path)
    assert "--split needs --data" in fails(*words, "--split", "val")
    assert "answers no questions" in fails("train", "tadam", "--data", cogent)
    root = shutil.copytree(cogent, tmp_path / "data")
    path = root / "questions/CLEVR_trainA_questions.json"
    content = json.loads(path.read_text())
    for entry in content["questions"]:
        del entry["answer"]
    path.write_text(json.dumps(content))
    assert "has no answers, which training needs" in fails(*words, "--data", root)
    assert not (tmp_path / "run").exists()


def test_runs_of_different_data_are_not_compared(fails, run, film, cogent, tmp_path):
    trained(run, tmp_path / "run", "--data", cogent)
    words = ("evaluate", tmp_path / "run", "--compare", film)
    assert "different held-out data" in fails(*words)
    run(*words, "--data", cogent, "--split", "valB")


def test_another_data_set_is_another_run(fails, run, cogent, film):
    words = ("train", "film", "--preset", "tiny", "--steps", 4, "--out", film)
    assert "holds a run with folder None, not Folder(" in fails(*words, "--data", cogent)
