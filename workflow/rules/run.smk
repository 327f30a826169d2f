def begin():
    """Locks the project for this run, or for this part of one that no newer run has ended meanwhile."""
    if WHOLE:
        lock.take(lambda: retire_batches(BATCHES, planned))
    else:
        lock.share()
        images_of(BATCH)


@atexit.register  # no hook of Snakemake is called when there is nothing to be done, or when it fails itself
def finish(directory=os.getcwd()):
    """The last word of a run, whatever its end; status 1 where all was asked for and an image is not measured."""
    executed = workflow.executor_plugin and not workflow.dryrun
    if not WHOLE or not executed or lock.refused:
        return
    os.chdir(directory)
    try:
        lines, complete = summarise(project)
    except (InputError, OSError) as error:
        lines, complete = [str(error)], False
    lock.give_back()
    with suppress(OSError, AttributeError, ValueError):  # the terminal may be gone
        print(*lines, sep="\n", file=sys.stderr, flush=True)
    asked = workflow.dag_settings
    limits = asked.until or asked.omit_from or asked.batch
    everything = set(asked.targets) <= {"all", "integrate_all"} and not limits
    program = "snakemake" in Path(sys.argv[0]).parts[-2:]  # none that has more to do
    ours = Path(workflow.main_snakefile).samefile(ROOT / "Snakefile")
    if everything and not complete and program and ours:
        os._exit(1)
