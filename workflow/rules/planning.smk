planned = set()  # directories of the batches of this run
searched = set()  # images whose lattice it searches before they can be measured
NOTHING = [PROJECT_XML]  # a target without any input would be a job
LAST = ("integrate_all", "extract_all", "search_all", "mask_all")


def all_results(target, *suffixes):
    """Files of every image that can be measured, or of batches that do the same for the rule `target`.

    And the lattice search of each whose lattice is to be found before, and for each image that is refused the file
    whose job fails. A second plan measures what the first has searched, and nothing else.
    """
    wait_for_example()
    names = checked(lambda: project.images)
    if ORDER:
        names = set(names) & set(ORDER.images)
        outdated = {
            name for name in names if project.outdated(name, project.planned(name))
        }
        workflow.dag.forcefiles.update(
            filter(os.path.exists, results_of(outdated, "_ext.mtz", "_int.mtz"))
        )
        return results_of(names, *suffixes)
    if config["images_per_job"]:
        made = checked(batches, target) or NOTHING
    else:
        searched.update(checked(to_search))
        made = results_of(set(names) - searched, *suffixes) + searches_of(searched)
        force_due(project.unmasked_anew)
        made += results_of(project.unmasked_anew, "tmp_mask.tif")
        searched.update(project.unmasked_anew)
    return made + refused_images()


def found_of(target, file):
    """The same for the results of the mask step and of the search alone, which no second plan has to do with."""
    wait_for_example()
    if target == "mask_all" and set(workflow.dag_settings.targets) - {target}:
        raise WorkflowError(
            "mask_all: measurements would begin before it; give it as the only target"
        )
    names = checked(
        lambda: project.unmasked if target == "mask_all" else project.unverified
    )
    if ORDER:
        return []
    if config["images_per_job"]:
        made = checked(batches, target) or NOTHING
    else:
        force_due(names)
        made = results_of(names, file)
    return made + refused_images()


def before_verification():
    """Searches that are missing on the page of lattices; a second plan makes it of those that have not failed."""
    wait_for_example()
    if ORDER:
        return []
    searched.update(checked(to_search))
    if config["images_per_job"]:
        return checked(batches, "search_all")
    return searches_of(searched)


def wait_for_example():
    """Has the example made first, where it is the project."""
    if SIMULATED and WHOLE and not ORDER:
        checkpoints.example.get()


def results_of(names, *suffixes):
    return [path for name in sorted(names) for path in project.results(name, *suffixes)]


def searches_of(names):
    force_due(names)
    return results_of(names, "tmp_search.tif")


def refused_images():
    return [REFUSED.format(image=name) for name in project.refused]


def to_search():
    """Names of the images whose lattice is searched in this run: not yet or otherwise searched ones, or forced."""
    settings = workflow.dag_settings
    forced = set(settings.forcerun)
    if settings.forceall or forced & set(STEPS[:2]):
        return reachable(project.unverified)
    files = {str(path) for path in map(Path, forced) if path.name in FOUND}
    named = {
        name
        for name in project.unverified
        if files & set(project.results(name, *FOUND))
    }
    return reachable(named | set(project.unsearched))


def reachable(names):
    """The same names of images to search; InputError where a limit leaves the searches out."""
    limits = set(workflow.dag_settings.until) & set(MEASURED)
    if names and limits:
        said = f"leaves out the search of the lattices of {len(names)} images"
        raise InputError(
            f"--until {' '.join(sorted(limits))}",
            said,
            "run `snakemake search_all` first",
        )
    return names


def force_due(names):
    """Has files made again of which Snakemake may not see that they are not what info.xml and image ask for."""
    for name in names:
        workflow.dag.forcefiles.update(project.due(name))


def one_image(name):
    """Whether a target is no rule but a file of an image."""
    return not workflow.is_rule(name) and Path(PROJECT) in Path(name).parents


@cache  # Snakemake may ask again
def batches(target):
    """Files that batches leave which do what is left to do for a rule; InputError where options are for single jobs."""
    settings = workflow.dag_settings
    targets, forced = set(settings.targets), set(settings.forcerun)
    wanted = {"verify": "search_all", "all": "integrate_all"}
    wanted = {wanted.get(name, name) for name in targets or {"all"}}
    if target != next((name for name in LAST if name in wanted), target):
        return []  # that does it
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
