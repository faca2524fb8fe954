"""Do AttnMixup and the semantic loss help a stock classifier of transformers? On handwritten digits, offline."""

import torch
from scipy.stats import ttest_rel
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from transformers import ViTConfig, ViTForImageClassification, set_seed

from modeling_i2srm.attn_mixup import AttnMixup
from modeling_i2srm.semantic_loss import SemanticLoss

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
VARIANTS = {"plain": (0, 0), "AttnMixup": (1, 0), "semantic loss": (0, 1), "both": (1, 1)}
digits = load_digits()  # 1797 of 8 x 8 pixels, part of scikit-learn
pixels, labels = torch.tensor(digits.images).float()[:, None] / 16, torch.tensor(digits.target)


def accuracy(seed: int, use_mixup: bool, use_kl: bool, count: int = 200, epochs: int = 60) -> float:
    set_seed(seed)  # the same model, split and batches for all variants
    model = ViTForImageClassification(ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=10, **SIZES))
    mixup, kl = AttnMixup(hidden_size=32), SemanticLoss(text_size=32, vision_size=32)
    train, test = torch.randperm(len(labels)).split([count, len(labels) - count])
    batches = [batch for _ in range(epochs) for batch in train[torch.randperm(count)].split(40)]
    optimizer = torch.optim.AdamW([p for part in (model, mixup, kl) for p in part.parameters()], lr=2e-3)
    for batch in batches:
        states, y = model.vit(pixels[batch]).last_hidden_state, labels[batch]
        if use_mixup:  # of the class tokens
            loss = sum(mixup(states[:, 0], y).losses(model.classifier, cross_entropy).values())
        else:
            loss = cross_entropy(model.classifier(states[:, 0]), y)
        loss = loss + 0.5 * kl(states[:, 0], states[:, 1:].mean(1)) if use_kl else loss  # class token and patches
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    with torch.no_grad():
        return 100 * float((model.eval()(pixels[test]).logits.argmax(-1) == labels[test]).float().mean())


found = {name: torch.tensor([accuracy(seed, *parts) for seed in range(5)]) for name, parts in VARIANTS.items()}
for name, values in found.items():
    print(f"{name:14}{values.mean():6.2f} ± {values.std():.2f} %, p {ttest_rel(values, found['plain']).pvalue:.3f}")
