"""How fast are the layers, beside each other and beside the bare limit? ``python -m benchmarks`` says.

`contestants` is who runs, `questions` is what is asked, `arena` starts the processes of one run and lets them meet,
`report` prints. Nothing here reaches into a layer: whatever is measured goes through the public channel layer API.
"""
