from ed2d.job import main
from ed2d.search import search

main(search)
