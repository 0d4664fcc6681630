import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image

from stacked_autoencoder import Autoencoder, DenseLevel
from stacked_autoencoder.cli.anomalies import heat_map
from stacked_autoencoder.cli.main import main
from stacked_autoencoder.heads import AnomalyDetector
from tests.conftest import blobs


def save_pictures(folder, images):
    folder.mkdir()
    for index, image in enumerate(((images + 1) * 127.5).astype(np.uint8)):
        Image.fromarray(image.squeeze()).save(folder / f"{index:02d}.png")


@pytest.fixture
def folders(tmp_path):
    keras.utils.set_random_seed(0)
    normal, new = blobs(60, seed=1), blobs(10, seed=2)
    new[7:, 4:12, 4:12] = np.random.default_rng(0).choice([-1, 1], (3, 8, 8, 3))
    save_pictures(tmp_path / "normal", normal)
    save_pictures(tmp_path / "new", new)
    (tmp_path / "new" / "nested").mkdir()
    (tmp_path / "new" / "09.png").rename(tmp_path / "new" / "nested" / "a, b.png")
    sae = Autoencoder(shape=(16, 16, 3), size=8, n_out=12, n_scalings=1)
    sae.train(normal, epochs=0, verbose=0)
    sae.save(tmp_path / "model")
    return tmp_path


def run(*words):
    return main(list(map(str, words)))


def test_scores_and_heat_maps_of_a_folder(folders, capsys):
    assert run("anomalies", "fit", folders / "model", folders / "normal", folders / "detector") == 0
    assert "Fitted a detector to 60 pictures" in capsys.readouterr().out
    assert run("anomalies", "score", folders / "detector", folders / "new", folders / "out") == 0
    assert "scores.csv" in capsys.readouterr().out
    with (folders / "out" / "scores.csv").open(newline="") as stream:
        rows = {row["name"]: float(row["score"]) for row in csv.DictReader(stream)}
    assert list(rows) == [*(f"{index:02d}.png" for index in range(9)), "nested/a, b.png"]
    highest = sorted(rows, key=rows.get)[-3:]
    assert sorted(highest) == ["07.png", "08.png", "nested/a, b.png"]
    picture = np.asarray(Image.open(folders / "out" / "nested" / "a, b.png")).astype(int)
    assert picture.shape == (16, 16, 3)
    redness = picture[..., 0] - picture[..., 1]
    assert redness[6:10, 6:10].mean() > redness[:3].mean()
    words = "anomalies", "score", folders / "detector", folders / "new", folders / "other", "--threshold", 1e9, "--json"
    assert run(*words) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["pictures"], result["anomalies"], result["threshold"]) == (10, 0, 1e9)
    assert {row["name"]: row["score"] for row in result["scores"]} == pytest.approx(rows)


def test_a_dense_level_has_heat_maps_of_its_errors(folders):
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=(16, 16, 3), levels=[DenseLevel(8, None)])
    sae.train(blobs(40), epochs=0, verbose=0)
    sae.save(folders / "dense")
    words = "anomalies", "fit", folders / "dense", folders / "normal", folders / "detector", "--contamination", 0.1
    assert run(*words) == 0
    assert run("anomalies", "score", folders / "detector", folders / "new", folders / "out", "--quiet") == 0
    assert len([*(folders / "out").rglob("*.png")]) == 10


def test_a_detector_without_maps_writes_scores_only(folders):
    keras.utils.set_random_seed(0)
    sae = Autoencoder(shape=(16, 16, 3), size=8, n_out=4, n_scalings=1, n_levels=2, latent_dim=6)
    sae.train(blobs(40), epochs=0, verbose=0)
    AnomalyDetector(sae, levels=[1]).fit(blobs(40)).save(folders / "detector")
    assert run("anomalies", "score", folders / "detector", folders / "new", folders / "out", "--quiet") == 0
    assert [path.name for path in (folders / "out").iterdir()] == ["scores.csv"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "{}/model", "{}/normal", "{}/new"], "is not empty"),
        (["fit", "{}/model", "{}/missing", "{}/detector"], "does not exist"),
        (["fit", "{}/model", "{}/new/nested", "{}/detector"], "At least 10 normal images"),
        (["score", "{}/missing", "{}/new", "{}/out"], "does not exist"),
        (["score", "{}/model", "{}/new", "{}/out"], "no saved detector"),
        (["score", "{}/model", "{}/new", "{}/normal"], "is not empty"),
    ],
)
def test_mistakes_are_reported_in_one_line(words, message, folders, capsys):
    arguments = [word.format(folders) for word in words]  # {} is the folder of all files
    assert run("anomalies", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folders / "detector").exists()


@pytest.mark.parametrize("words", [["anomalies"], ["anomalies", "fit", "a", "b", "c", "--contamination", "2"]])
def test_invalid_arguments(words):
    with pytest.raises(SystemExit) as error:
        main(words)
    assert error.value.code == 2


def test_a_heat_map_is_grey_where_the_score_is_0():
    picture = np.full((2, 2, 3), (30, 60, 90), np.uint8)
    shown = heat_map(picture, np.array([[0.0, 1.0], [2.0, 50.0]]), threshold=1.0)
    np.testing.assert_array_equal(shown[0, 0], [60, 60, 60])
    np.testing.assert_array_equal(shown[1, 0], shown[1, 1])
    assert shown[1, 1, 0] > shown[0, 1, 0] > 60 > shown[0, 1, 1] > shown[1, 1, 1]
