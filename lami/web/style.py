"""Looks of the page, in light and dark."""

from __future__ import annotations

import gradio as gr

# Names of fonts that are on the visitor's computer: nothing is fetched.
_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
_MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")

CSS = """
.gradio-container { max-width: 1400px !important; }
#header .html-container, #status .html-container { padding: 0; }
#header h1 { font-size: 1.7rem; font-weight: 700; margin: 0; line-height: 1.2; }
#header p { margin: 0; color: var(--body-text-color-subdued); }
#consent p { margin: 0; font-size: 0.85rem; color: var(--body-text-color-subdued); }
.lami-status {
  border: 1px solid var(--border-color-primary); border-left: 4px solid var(--border-color-primary);
  border-radius: var(--radius-md); padding: 10px 14px; min-height: 58px; background: var(--background-fill-secondary);
  display: flex; flex-direction: column; justify-content: center; gap: 8px;
}
.lami-status p { margin: 0; color: var(--body-text-color); }
.lami-status p.warning { margin-top: 4px; font-size: var(--text-sm); }
.lami-status.busy { border-left-color: var(--primary-500); }
.lami-status.done { border-left-color: #16a34a; }
.lami-status.error { border-left-color: #dc2626; }
.lami-status .bar { height: 6px; border-radius: 3px; background: var(--border-color-primary); overflow: hidden; }
.lami-status .bar div { height: 100%; background: var(--primary-500); transition: width 0.3s; }
.explanation p { font-size: 0.9rem; color: var(--body-text-color-subdued); margin-bottom: 0; }
#note p { margin: 0; font-size: 0.9rem; }
#result video, #comparison video { object-fit: contain; width: 100%; height: 100%; }
#movement .video-container { height: 100%; justify-content: flex-start; }
#movement .video-container > :is(.wrap, .upload-container) { flex: 1 1 0; min-height: 0; height: auto; }
#examples .gallery { display: grid; grid-template-columns: repeat(3, 1fr); }
#examples .gallery :is(.container, img) { width: 100% !important; max-width: none !important; }
#examples .gallery .container { display: block; }
.inside .image-container { padding-top: 28px; }
"""


def theme() -> gr.themes.Base:
    """Orange, as the frames around selected images, on grey."""
    return gr.themes.Default(
        primary_hue=gr.themes.colors.orange,
        neutral_hue=gr.themes.colors.slate,
        font=_SANS,
        font_mono=_MONO,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
    )
