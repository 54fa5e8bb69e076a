"""Common English words that synthetic voices say."""

from __future__ import annotations

from typing import Final

_WORDS: Final = """
about above across after again air all almost along always and animal answer any around ask away
back bad ball bank bath beach bear beautiful because bed before begin behind below best better
between big bird black blue boat body book both bottle box boy bread bridge bright bring brother
brown build busy buy call camera car carry cat catch chair change cheap cheese child choose
church city clean clear climb clock close cloud coat coffee cold colour come cook corner cost
cough could country cow cup cut dance dark daughter day deep different dinner doctor dog door
down dream dress drink drive dry early earth east easy eight enjoy enough evening every eye face
fall family far farm fast father feather few field fight find finger fire fish five floor flower
fly follow food foot forest forget four fresh friend from full garden girl give glass go gold
good grass great green ground group grow half hand happy hard hat have head hear heart heavy
help high hill hold home hope horse hot hour house how hundred hungry ice idea island job join
joy judge jump just keep kind kitchen know lake land large last late laugh law leaf learn leave
left leg less letter light line listen little live long look loud love low lunch machine make
many map market measure meat meet middle milk minute money month moon more morning mother
mountain mouth move music name near never new next night nine noise nose nothing now number
ocean often oil old once one only open orange other out over page paint paper part pay people
picture piece place plant play please point poor power pretty pull push quick quiet rain reach
read ready red rice ride right ring river road room round run sad safe salt same sand say school
sea season see seven shape sharp sheep ship shirt shoe shop short show side silver simple sing
sister six sky sleep slow small smile smooth snow soft some song soon sound south speak spring
square star start station stay stone stop story street strong sugar summer sun sure sweet swim
table take talk tall taste teach tell ten thank their thick thin thing think this thousand three
through time tired today together tomorrow tooth touch town toy train travel treasure tree true
try turn two under usual valley very village visit voice wait walk wall warm wash watch water
way weather week well west wet what wheel where white wide wind window winter wish with woman
wonder wood word work world write year yellow yes young zero
"""

WORDS: Final = tuple(_WORDS.split())
