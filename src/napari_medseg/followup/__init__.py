"""Compare a scan with a prior one: registered, lesion by lesion, and voxel by voxel."""
