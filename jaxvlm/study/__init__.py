"""What studies share: settings, one trained stage, results, claims, pages."""
