"""Pictures: where they come from, how they are varied, and how they become batches."""
