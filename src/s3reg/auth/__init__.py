"""Who is asking, and what may they do. It knows no HTTP; `Gate` has all of it in one object."""
