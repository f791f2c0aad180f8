"""The replication of Ilyas et al. 2019: recipes, stages, claims, reports."""
