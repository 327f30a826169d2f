from ed2d.exampleproject import make_example
from ed2d.job import main

main(make_example)
