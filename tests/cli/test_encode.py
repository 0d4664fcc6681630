import json

import numpy as np
import pytest
from PIL import Image

from stacked_autoencoder import Autoencoder, EncodingStore
from stacked_autoencoder.cli.main import main


@pytest.fixture
def folders(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{index:02d}.png")
    sae = Autoencoder(shape=(16, 16, 3), size=4, n_out=4)
    sae.train(pixels, epochs=0, verbose=0)
    sae.save(tmp_path / "model")
    return tmp_path


def test_a_budget_of_the_loss(folders, capsys):
    call = [
        "encode",
        str(folders / "model"),
        str(folders / "pictures"),
        str(folders / "store"),
        "--loss-budget",
        "0.05",
    ]
    assert main(call) == 0
    assert "rounding adds" in capsys.readouterr().out
    store = EncodingStore(folders / "store")
    assert store.loss_budget == 0.05
    assert main([*call, "--json"]) == 0  # the store is complete
    result = json.loads(capsys.readouterr().out)
    assert (result["dtype"], result["loss_budget"], result["added_loss"]) == ("int32", 0.05, store.added_loss)
    assert main(["info", str(folders / "store")]) == 0
    assert "int32 compressed" in capsys.readouterr().out


def test_a_dtype_and_a_budget_exclude_each_other(folders, capsys):
    call = ["encode", str(folders / "model"), str(folders / "pictures"), str(folders / "store")]
    with pytest.raises(SystemExit):
        main([*call, "--loss-budget", "0.05", "--dtype", "int8"])
    assert "not allowed with argument" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*call, "--loss-budget", "0"])
    assert "expected a number greater than 0" in capsys.readouterr().err
    assert main([*call, "--dtype", "int8"]) == 0
    assert EncodingStore(folders / "store").file_dtype == np.int8
