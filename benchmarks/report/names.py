"""Names that the pages show for the designs in `benchmarks/results/`."""

OURS = "this library"
TYPICAL = "typical convolutional autoencoder"

DESIGNS = {  # of the photographs and Fashion-MNIST tables, in the order of their rows
    "PCA": "PCA",
    "closed form": f"{OURS}, not trained (`epochs=0`)",
    "ours": OURS,
    "ours, longer": f"{OURS}, 20 minutes",
    "TAEF2": "TAEF2, pretrained",
    "usual design": TYPICAL,
    "textbook dense 100-30": "textbook dense autoencoder",
    "greedy": f"{OURS}, greedy",
    "greedy, then fine_tune": f"{OURS}, greedy, then `fine_tune`",
    "joint": f"{OURS}, joint",
    "two greedy levels": f"{OURS}, greedy",  # in results of earlier versions
    "… and fine_tune": f"{OURS}, greedy, then `fine_tune`",
}
PEERS = {  # the strongest first
    "ours": OURS,
    "PyTorch": "the same network in PyTorch",
    "PCA": "PCA (scikit-learn)",
    "Keras blog": "Keras blog autoencoder",
    "usual": TYPICAL,
    "dense": "one dense layer each way",
}
NETWORKS = {
    "tied": "dense 100-30, tied",
    "convolutional": "convolutional",
    "dropout": "dense 100-30, denoising with `Dropout(0.5)`",
    "L1": "dense 100-300, sparse with `L1`",
    "KL": "dense 100-300, sparse with `KLSparsity`",
}
BEGANS = {
    "pixels, usual design": "64x64x3 pixels, networks of the paper",
    "pixels, ours": "64x64x3 pixels, `heads.BEGAN`",
    "encodings": "8x8x64 encodings, `heads.BEGAN`",
}
