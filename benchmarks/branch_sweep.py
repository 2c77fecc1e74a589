"""Hold recon.branch against separate copies per task, over many networks: one line each.

    python benchmarks/branch_sweep.py [--only SUBSTRING] [--quick]

Every network is branched in a random 5 % and 30 % of its layers, in all, in its first, its last and
one norm layer, in training and in evaluation; outputs, gradients and running statistics are
compared in float64. It needs timm.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import timm
import torch
import torchvision.models as tv
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "tests" / "branching"))
from separate_copies import differences, some_layers, still

from recon.gradients.layers import shared_layers

TOLERANCE = 1e-10
TORCHVISION = (
    "squeezenet1_1 resnet18 resnet50 resnext50_32x4d densenet121 googlenet:96 inception_v3:299 mobilenet_v2 "
    "mobilenet_v3_small mobilenet_v3_large mnasnet0_5 shufflenet_v2_x0_5 efficientnet_b0 "
    "efficientnet_v2_s regnet_x_400mf regnet_y_400mf convnext_tiny swin_t swin_v2_t"
)
SEGMENTATION = "fcn_resnet50 deeplabv3_resnet50 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large"
TIMM = (
    "resnet18 resnet26d seresnext26d_32x4d skresnet18 ecaresnet26t res2net50_26w_4s dla34 hrnet_w18_small densenet121 "
    "cspresnet50 darknet53 xception41 inception_v4:96 mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small "
    "mobilenetv4_hybrid_medium tf_efficientnet_lite0 mixnet_s ghostnet_100 lcnet_050 rexnet_100 regnety_002 repvgg_a0 "
    "nf_regnet_b0 resnetv2_50 convnext_atto convnextv2_atto vit_tiny_patch16_224=64 deit_tiny_distilled_patch16_224=64 "
    "cait_xxs24_224=64 xcit_nano_12_p16_224=64 swin_tiny_patch4_window7_224=224 swinv2_cr_tiny_224=224 "
    "maxvit_rmlp_nano_rw_256=256 maxvit_tiny_tf_224=224 coatnet_nano_rw_224=224 mobilevit_s mobilevitv2_050 "
    "efficientvit_b0 efficientvit_m0=224 edgenext_xx_small poolformer_s12 pvt_v2_b0 twins_svt_small=224 "
    "visformer_tiny=224 pit_ti_224=224 levit_128s=224 mixer_s32_224=224 gmlp_s16_224=224 resmlp_12_224=224 "
    "beit_base_patch16_224=224 eva02_tiny_patch14_224=224 fastvit_t8 repvit_m0_9 tiny_vit_5m_224=224 focalnet_tiny_srf "
    "davit_tiny gcvit_xxtiny=224 inception_next_atto starnet_s1 mambaout_femto hgnetv2_b0 ese_vovnet19b_dw "
    "efficientformer_l1=224 efficientformerv2_s0=224 nest_tiny=224 convit_tiny=224 crossvit_9_240=240 gernet_s "
    "selecsls42 bat_resnext26ts=256 botnet26t_256=256 halonet26t=256 lambda_resnet26t=256 tnt_s_patch16_224=224 "
    "coat_tiny=224 volo_d1_224=224 sequencer2d_s=224 hiera_tiny_224=224 mvitv2_tiny=224"
)
FEATURES = (
    "resnet18 hrnet_w18_small mobilevit_s convnext_atto vit_tiny_patch16_224=224 swin_tiny_patch4_window7_224=224"
)


def networks() -> Iterator[tuple[str, Callable[[], nn.Module], tuple[int, ...]]]:
    """Name, maker and input shape; ``name:s`` takes images of size s, ``name=s`` is made for s."""
    for name, size, _ in _parsed(TORCHVISION):
        yield f"torchvision {name}", lambda name=name: tv.get_model(name), (2, 3, size, size)
    yield "torchvision vit", lambda: tv.VisionTransformer(64, 16, 3, 4, 64, 128), (2, 3, 64, 64)
    yield "torchvision maxvit", _maxvit, (2, 3, 64, 64)
    yield "torchvision r3d_18", lambda: tv.get_model("r3d_18"), (2, 3, 4, 32, 32)
    yield "torchvision swin3d_t", lambda: tv.get_model("swin3d_t"), (2, 3, 4, 64, 64)
    for name, size, _ in _parsed(SEGMENTATION):
        make = lambda name=name: tv.get_model(name, weights_backbone=None, num_classes=5)  # noqa: E731
        yield f"torchvision {name}", make, (2, 3, size, size)
    for name, size, fixed in _parsed(TIMM):
        yield f"timm {name}", _timm(name, size if fixed else None), (2, 3, size, size)
    for name, size, fixed in _parsed(FEATURES):
        make = _timm(name, size if fixed else None, features_only=True)
        yield f"timm {name} features_only", make, (2, 3, size, size)


def _parsed(names: str) -> Iterator[tuple[str, int, bool]]:
    for word in names.split():
        name, _, size = word.replace("=", ":").partition(":")
        yield name, int(size or 64), "=" in word


def _timm(name: str, size: int | None, **options: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        # Only some of timm's networks are made for an image size; these have it in their signature.
        try:
            return timm.create_model(name, **options, **({"img_size": size} if size else {}))
        except TypeError:
            return timm.create_model(name, **options)

    return make


def _maxvit() -> nn.Module:
    return tv.MaxVit((64, 64), 16, 2, [16, 32], [1, 1], 8, 0.0)


def cases(network: nn.Module, quick: bool) -> Iterator[tuple[str, list[str], bool]]:
    """Which layers to branch, and whether to train."""
    names = list(shared_layers(network))
    norms = [name for name in names if "norm" in type(_module(network, name)).__name__.lower()]
    choices = {"30 %": some_layers(network, 0.3)}
    if not quick:
        choices |= {"5 %": some_layers(network, 0.05), "all": names, "first": names[:1], "last": names[-1:]}
        choices |= {"one norm": norms[len(norms) // 2 :][:1]} if norms else {}
    for title, layers in choices.items():
        for training in (True, False):
            yield f"{title}, {'training' if training else 'evaluation'}", layers, training


def _module(network: nn.Module, layer: str) -> nn.Module:
    return dict(network.named_modules()).get(layer, network)


def check(make: Callable[[], nn.Module], shape: tuple[int, ...], quick: bool) -> str:
    """The worst difference over all cases, or what went wrong first."""
    torch.manual_seed(0)
    network = still(make())
    x = torch.randn(shape, dtype=torch.float64)
    worst, count = 0.0, 0
    for title, layers, training in cases(network, quick):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = differences(network, layers, [x], training, ("left", "right"))
        if untraced := [str(w.message) for w in caught if "cannot be traced" in str(w.message)]:
            return f"NOT TRACED ({title}): {untraced[0][:160]}"
        if max(found.values()) > TOLERANCE:
            return f"DIFFERS ({title}): {found}"
        worst, count = max(worst, *found.values()), count + 1
    return f"exact, {count} cases, worst {worst:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only networks with this in their names")
    parser.add_argument("--quick", action="store_true", help="30 %% of the layers alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    exact = total = 0
    for name, make, shape in networks():
        if options.only not in name:
            continue
        start = time.perf_counter()
        try:
            result = check(make, shape, options.quick)
        except Exception as error:
            result = f"FAILED {type(error).__name__}: {str(error)[:200]}"
        total, exact = total + 1, exact + result.startswith("exact")
        print(f"{name:50} {result}  ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"{exact} of {total} networks exact")


if __name__ == "__main__":
    main()
