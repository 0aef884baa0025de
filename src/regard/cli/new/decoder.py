"""What the recipes of `regard new` share that train a decoder on packed blocks."""

from regard.cli.new.common import RHYTHM

TRAINING = (
    """\
embedding.dropout = $dropout  # less text wants more dropout
layer.dropout = $dropout
layer.attention.dropout = $dropout

[objective]
kind = "next_token"
label_smoothing = 0.0

[training]
max_steps = $max_steps       # about $epochs times through the data
batch_size = $batch_size     # blocks of one micro-batch; fewer, if memory runs out
accumulate = $accumulate     # micro-batches of a step
clip_norm = 1.0
patience = 10                # stop after so many evaluations without a better one
seed = 1

[training.optimizer]
kind = "adamw"
betas = [0.9, 0.99]
weight_decay = 0.1

[training.schedule]
kind = "cosine"
peak = $peak                 # highest learning rate; halve it if the loss jumps
"""
    + RHYTHM
    + """\
metric = "loss"
samples = 2

"""
)
