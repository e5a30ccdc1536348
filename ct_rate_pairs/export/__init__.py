"""
Scans as the preprocessing of other models has them, for models that need their own code: M3D-LaMed, RadFM, CT-CHAT,
CT2Rep, CT-CLIP and Merlin take volumes; Med-Flamingo, Qilin-Med-VL and MiniGPT-4 take a picture. Their code is not run
here. The numbers come from their public scripts, which each [`~ct_rate_pairs.export.form.ModelInput`] names by
repository, path and commit.

The command is `ct-rate-pairs export`.
"""

# Here without their code, which imports torch.
FORMATS = ("m3d", "radfm", "ct-chat", "ct2rep", "ct-clip", "merlin", "med-flamingo", "qilin", "minigpt-4")
