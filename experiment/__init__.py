"""Between files and the method: arguments, samples, result files, the pipelines, the report.

Data go one way: a domain's loader makes `Samples`, `pipeline` hands their tensors to `relation`,
`report` prints and writes the result. Nothing here is imported by `relation`.
"""
