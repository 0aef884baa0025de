"""``python -m regard.nn.native``: build the operators, for the next process."""

from regard.nn.native import load

if __name__ == "__main__":
    load()
