from ed2d.job import main
from ed2d.mask import mask

main(mask)
