from ed2d.integrate import integrate
from ed2d.job import main

main(integrate)
