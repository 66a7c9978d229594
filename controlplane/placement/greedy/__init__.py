"""Which plan can be had at once, moves little, and says what had to give way?

``solver.solve`` places one deployment after the other; ``solver.resolve`` only those that an event touched and those
that lack a wish (``events.to_place_anew``); ``chosen.as_chosen`` writes down as a plan what somebody else chose. Never
imports ``search``, ``questions`` or the judge.
"""
