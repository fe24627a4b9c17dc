"""AlexNet's convolutions, as torchvision builds and names them. Knows the architecture; no weights and no pictures."""

from torch import Tensor, nn

HEADS = ("classifier.",)  # of the published weights, and no part of what judges
DEPTHS = {"alexnet2": 5, "alexnet5": 12}  # layers up to the ReLU after the second and the fifth convolution


class AlexNet(nn.Module):
    """Pictures (b, 3, s, s) to what the first ``depth`` layers say: at 224 px (b, 192, 27, 27) or (b, 256, 13, 13)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.features[: self.depth](pictures)
        return found
