"""Fitted maps as frozen layers: RSCA, and step 1 with any other learner."""
