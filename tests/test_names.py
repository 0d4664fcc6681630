from stacked_autoencoder.names import did_you_mean


def test_a_near_name_is_suggested():
    assert did_you_mean("rellu", ["gelu", "relu", "tanh"]) == "did you mean 'relu'? "
    assert did_you_mean("KLSparsty", {"L1": None, "KLSparsity": None}) == "did you mean 'KLSparsity'? "


def test_nothing_is_suggested_for_what_is_far_from_all():
    assert did_you_mean("xyz", ["relu", "tanh"]) == ""
    assert did_you_mean(3, ["relu"]) == ""
