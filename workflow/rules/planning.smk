planned = set()  # directories of the batches of this run


def all_results(target, *suffixes):
    """Files of every image that can be measured, or of batches that do the same for the rule `target`.

    And for each image that is refused the file whose job fails.
    """
    if SIMULATED and WHOLE:
        checkpoints.example.get()
    names = checked(lambda: project.images)
    if config["images_per_job"]:
        # a target without any input would be a job
        measured = checked(batches, target) or [PROJECT_XML]
    else:
        measured = [path for name in names for path in project.results(name, *suffixes)]
    return measured + [REFUSED.format(image=name) for name in project.refused]


def one_image(name):
    """Whether a target is no rule but a file of an image."""
    return not workflow.is_rule(name) and Path(PROJECT) in Path(name).parents


@cache  # Snakemake may ask again
def batches(target):
    """Files that batches leave which do what is left to do for a rule; InputError where options are for single jobs."""
    settings = workflow.dag_settings
    targets, forced = set(settings.targets), set(settings.forcerun)
    if target == "extract_all" and not targets <= {"extract_all"}:
        return []  # integrate_all does it
    limits = set(settings.until) | set(settings.omit_from)
    single = limits & set(STEPS) | set(filter(one_image, targets | forced | limits))
    if single:
        said = "does not go together with images_per_job"
        cure = "give targets as extract_all, or set images_per_job=0"
        raise InputError(" ".join(sorted(single)), said, cure)
    options = ["--rerun-triggers", *sorted(map(str, settings.rerun_triggers))]
    options += ["--forceall"] if settings.forceall else []
    rules = [name for name in STEPS if name in forced]
    options += ["--forcerun", *rules] if rules else []
    names = plan_batches(
        BATCHES,
        [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"]
        + ALONE.split(),
        config | {"images_per_job": 0},
        target=target,
        images=config["images_per_job"],
        options=options,
    )
    planned.update(name.partition("/")[0] for name in names)
    return [f"{BATCHES}/{name}.done" for name in names]
