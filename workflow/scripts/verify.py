from ed2d.contactsheet import contact_sheet
from ed2d.job import main

main(contact_sheet)
