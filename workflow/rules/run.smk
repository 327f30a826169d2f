ended = []  # has an entry when all jobs were done that could be


def begin():
    """Locks the project for this run, or for this part of one that no newer run has ended meanwhile."""
    if WHOLE:
        lock.take(lambda: retire_batches(BATCHES, planned))
    else:
        lock.share()
        images_of(BATCH)


def broken_off():
    """Whether a run that did not succeed has left jobs undone: it was stopped, or is not to keep going."""
    undone = workflow.scheduler.running or workflow.scheduler.open_jobs
    return bool(undone) or stopped() or not workflow.execution_settings.keep_going


def stopped():
    """Whether SIGTERM has come."""
    return bool(workflow.scheduler._user_kill)


@atexit.register  # no hook of Snakemake is called when there is nothing to be done, or when it fails itself
def finish(directory=os.getcwd()):
    """The last word of a run, whatever its end; status 1 where all was asked for and an image is not measured."""
    started = os.getcwd()
    os.chdir(directory)
    if workflow.dryrun and searched and not ORDER and measures_after_search():
        say(
            f"lattices to be searched first: {len(searched)}; "
            "those that are sure are measured after that, in the same run"
        )
    executed = workflow.executor_plugin and not workflow.dryrun
    if not executed or lock.refused or not (WHOLE or BATCH):
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if searched and ended and OURS and leads_further() and not stopped():
        go_on(started, directory)
    complete = report() if WHOLE else True
    asked = workflow.dag_settings
    limits = asked.until or asked.omit_from or asked.batch
    everything = set(asked.targets) <= {"all", "integrate_all"} and not limits
    if OURS and (everything and not complete or ORDER and ORDER.failed):
        os._exit(1)


def stop(*_):
    """Ends a run that is stopped at its end, where Python would not hear of it."""
    say("stopped; run again")
    os._exit(1)


def report():
    """Writes the summary and shows it; whether all images are measured that can be."""
    try:
        lines, complete = summarise(project)
    except (InputError, OSError) as error:
        lines, complete = [str(error)], False
    lock.give_back()
    say(*lines)
    return complete


def say(*lines):
    with suppress(OSError, AttributeError, ValueError):  # the terminal may be gone
        print(*lines, sep="\n", file=sys.stderr, flush=True)


def measures_after_search():
    """Whether there is more to do for what the first plan searches than the page to verify."""
    return leads_further() and set(workflow.dag_settings.targets) != {"verify"}


def leads_further():
    """Whether a second plan with the same command line measures what the first has searched."""
    asked = workflow.dag_settings
    targets = set(asked.targets)
    limits = set(asked.until) | set(asked.omit_from)
    named = targets | set(asked.forcerun) | limits
    return (
        targets <= {"all", "integrate_all", "extract_all", "verify"}
        and not limits & {"mask", "search"}
        and not any(map(one_image, named))
        and not asked.batch
    )


def go_on(started, directory):
    """Replaces this process by one of the same command line that plans once more; returns where there is no need."""
    present = project.anew()
    outcome = Outcome.of(present, searched)
    present.readings.remember()
    targets = set(workflow.dag_settings.targets)
    failed = bool(workflow.scheduler.failed)
    measured = [] if targets == {"verify"} or config["images_per_job"] else outcome.sure
    say(outcome.line(measured))
    page_is_missing = failed and "verify" in targets
    if not measured and not page_is_missing:
        return
    order = f"{BATCH or MEMORY}.order.json"
    try:
        Order(measured, failed).write(order)
        if WHOLE:
            lock.give_back()
        os.environ[SECOND] = order
        os.chdir(started)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except (InputError, OSError) as error:
        say(f"{error}: the images that were searched are not measured; run again")
        os.chdir(directory)
