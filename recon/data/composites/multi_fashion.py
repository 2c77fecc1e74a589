"""MultiFashion: two pieces of clothing in one image."""

from typing import ClassVar

from recon.data.composites.overlapping import OverlappingImages


class MultiFashion(OverlappingImages):
    """MultiFashion from the raw files of Fashion-MNIST: a class for each of both images.

    Batches are ``(x, {"left": ..., "right": ...})`` with pixels ``(B, 1, 36, 36)``, float32 in
    [0, 1], and labels ``(B,)``. Validation and test both give the test split.

    >>> data = MultiFashion(root="data", train_size=1000, test_size=200)
    >>> data.dataset_name
    'MultiFashion(train_size=1000, test_size=200, seed=0)'

    Args:
        root: Directory with ``FashionMNIST/raw`` as torchvision lays it out. Missing files are
            downloaded to it; a directory with all files may be read-only.
        train_size: Number of training pairs, the first of the sequence.
        test_size: Number of test pairs, the first of the sequence.
        batch_size: Batch size of training, in each process.
        loading: ``eval_batch_size``, ``seed`` of the pairing, ``shuffle_seed`` and ``held_out``, as
            :class:`~recon.data.composites.module.CompositesModule` takes them.

    Raises:
        ValueError: When the data are asked for: raw files are missing and cannot be downloaded, or
            are damaged.
    """

    sources: ClassVar = {"left": "FashionMNIST", "right": "FashionMNIST"}
