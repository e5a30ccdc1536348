"""
Scans as the preprocessing of other models has them, for models that need their own code: M3D-LaMed, RadFM, CT-CHAT,
CT2Rep, CT-CLIP and Merlin. Their code is not run here. The numbers come from their public scripts, which each
[`~ct_rate_pairs.export.form.ModelInput`] names by repository, path and commit.

The command is `ct-rate-pairs export`.
"""

FORMATS = ("m3d", "radfm", "ct-chat", "ct2rep", "ct-clip", "merlin")  # here without their code, which imports torch
