"""Training the listwise ability: slates and their mining, the paper's losses, the trainer.

```
documents ── inverse cloze ─► Collection ── mining ─► slates ─► JSONL ─► trainer
```
"""
