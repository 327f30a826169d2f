"""A real browser without a window, for the tests of the page."""

import json
import shutil
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PROGRAMS = ("chromium", "chromedriver")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1280,800"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LOCAL = ("file:", "data:", "blob:", "chrome:")  # the last: its own empty page


def lacking():
    """What this machine lacks for a browser, or ""."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        return f"no {', '.join(missing)}: a browser needs the Debian packages chromium and chromium-driver"
    return ""


def started(directory):
    """A Chromium whose profile and downloads are in a directory, and that talks to nobody else."""
    options = webdriver.ChromeOptions()
    for option in (*OPTIONS, f"--user-data-dir={directory / 'profile'}"):
        options.add_argument(option)
    options.binary_location = shutil.which("chromium")
    downloads = {"download.default_directory": str(directory / "downloads"), "download.prompt_for_download": False}
    options.add_experimental_option("prefs", downloads)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(60)
    return driver


def complaints(driver):
    """What the console said since it was asked last, and addresses that were asked for anything."""
    said = [entry["message"] for entry in driver.get_log("browser")]
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return said, [url for url in asked if not url.startswith(LOCAL)]


def address(path):
    return Path(path).resolve().as_uri()
