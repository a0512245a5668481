"""What a fitted RSCA goes by: which bins and lines carry a feature, a pair's distance or a star's place."""
