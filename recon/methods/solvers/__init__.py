"""Small exact problems on K x K numbers that methods share; imports gradients."""
