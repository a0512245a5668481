"""How good a learner is: doppelganger rate, leave one cluster out, intervals, nested choice."""
