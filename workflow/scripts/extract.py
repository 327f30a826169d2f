from ed2d.extract import extract
from ed2d.job import main

main(extract)
