"""The paper in pure torch: objective, weights γ, meta-objective, hypergradient."""
