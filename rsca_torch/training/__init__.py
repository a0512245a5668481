"""Learners with a loss: fitted on a fold, for as long as inner clusters say."""
