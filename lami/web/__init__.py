"""The page of `lami web`. Only `app`, `inputs` and `server` import Gradio, the rest is ordinary Python."""
