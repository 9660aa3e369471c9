"""The one gate for files that users bring: sizes, shapes and kinds are checked before anything is made of them."""
