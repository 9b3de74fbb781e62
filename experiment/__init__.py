"""From a name or a file to a report. No import runs up; a test holds the files to it.

    scripts           detect.py, detect_val.py, detect_ood.py, ...
       |
    detection         one detection, whole: find, then report
    sources           what the options name: an experiment or a feature file
       |
    report/           a Result as people read it: screen, tables, pictures, page
       |
    run/              Samples -> Result: label errors, outliers, and what both need
       |              imagenet, language, speech, digits: files -> Samples
    inputs/           what comes in: samples, feature files, the user's own data
       |
    files/            reading and writing, weights-only, whole or not at all
    command/          how a script starts, is told what to do, and ends
       |
    relation          the method: tensors in, tensors out

The domains stand beside run/: `published` names an experiment's domain, which is imported by name.
"""
