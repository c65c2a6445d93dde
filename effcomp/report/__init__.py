"""What the compiler did to a model: as data, as text, as a page, for Model Explorer. Torch-free."""
