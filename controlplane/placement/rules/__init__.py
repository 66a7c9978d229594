"""What may run where, what does a deployment need, what fits, and what does a plan cost?

Decision 0021 as code, for whoever makes plans (``greedy``, ``search``) or explains them (``questions``). Never imports
those, nor the judge: it has an arithmetic of its own, so that one mistake is not made twice.
"""
