"""Which files of the packages are photographs, and what they show.

Every image of these packages was looked at. What is left out, and why:

- gcompris-qt-data: the other large images of ``details`` and those of ``babyshapes`` are
  paintings; ``georgeWashingtonBirthplace`` is a slide with a black frame; what has fewer than 256
  pixels a side, is a thumbnail (``categorization``) or is cut out (a transparent or white
  background) is no scene.
- mate-backgrounds: ``abstract`` and ``desktop`` are illustrations or computed.
- plasma-workspace-wallpapers: Altai, Autumn, Canopee, Cascade, Cluster, Elarun, Flow, FlyingKonqui,
  Honeywave, IceCold, Kay, Kokkini, MilkyWay, Opal, PastelHills, Patak, SafeLanding, Shell and Volna
  are illustrations or computed.
- gnome-backgrounds and ukui-wallpapers have no photograph, and are not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Album:
    """Photographs of one file, or one folder, of a package.

    Attributes:
        package: that it comes with.
        place: Qt resource file of gcompris-qt-data, without its ending; or a pattern of a path
            with ``{}`` for the name.
        names: of the photographs, as the package has them.
    """

    package: str
    place: str
    names: tuple[str, ...]

    @property
    def in_resources(self) -> bool:
        """Whether they are in a Qt resource file."""
        return self.package == "gcompris-qt-data"


def _album(package: str, place: str, names: str) -> Album:
    return Album(package, place, tuple(names.split()))


ALBUMS: Final = (
    _album(
        "gcompris-qt-data",
        "explore_monuments",
        "ajantaCave arlesAmphitheater aulaPalatina bentPyramid berlinCathedral brandenburgGate "
        "cabrillo canyondeChelly castillodeSanMarcos castleClinton charminar chateaudeChambord "
        "chateaudeChenonceau chichenItza christTheRedeemer citedeCarcassonne colosseum "
        "eiffelTower fortSumter gatewayofIndia goldenTemple "
        "greatPyramidOfGiza greatStupa greatWallofChina hawaMahal konarkSunTemple "
        "lincolnMemorial machuPicchu meidumPyramid montStMichel mountRushmore mysorePalace "
        "navajo neuschwansteinCastle palaisdesPapes petra pontduGard qutubMinar rangGhar "
        "redPyramid reimsCathedral rocamadour schwerinPalace statueofLiberty tajMahal "
        "trierImperialBaths victoriaMemorial wormsCathedral",
    ),
    _album(
        "gcompris-qt-data",
        "explore_world_animals",
        "bison chameleon crocodile dragon giraffe hedgehog jaguar kangaroo koala lemur moose "
        "narwhal panda polar_bear scarlet_macaw",
    ),
    _album(
        "gcompris-qt-data",
        "explore_farm_animals",
        "cat chicken cow dog duck horse owl pig sheep",
    ),
    _album(
        "gcompris-qt-data",
        "erase",
        "alpaca bee butterfly calf camels caterpillar chamaeleon cheetah crab dolphin flying_fox "
        "gibbon giraffe goat gorilla gosling heron horse kingfisher kitten long_nosed_monkey "
        "macaque meerkats northern_harrier nubian_ibex penguin pika red_panda rhinoceros "
        "spoonbills squirrel swans toucan",
    ),
    _album(
        "gcompris-qt-data",
        "explore_world_music",
        "africa america australia ireland italy japan mexico middleeast orchestra",
    ),
    _album("gcompris-qt-data", "clickgame", "sea1 sea2 sea3 sea4 sea5 sea6"),
    _album(
        "gcompris-qt-data",
        "details",
        "Chenonceau_background EgeskovSlotSpejling_background EilanDonanCastle_background "
        "FanoeWindmill_background GizahPyramids_background Louvre_2007_02_24_c_background "
        "NDP_background Nagoya_background Neuschwanstein_background OperaSidney_background "
        "TajMahal_background TourEiffel_background TowerBridgeLondon_background",
    ),
    _album(
        "mate-backgrounds",
        "/usr/share/backgrounds/mate/nature/{}.jpg",
        "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood "
        "YellowFlower",
    ),
    _album(
        "plasma-workspace-wallpapers",
        "/usr/share/wallpapers/{}/contents/images/2560x1600.jpg",
        "BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite "
        "OneStandsOut Path summer_1am",
    ),
    _album("scikit-learn", "datasets/images/{}.jpg", "china flower"),
)

#: Photographs that show the same -> what they show. Others have a motif of their own.
MOTIFS: Final = {
    "bentPyramid greatPyramidOfGiza meidumPyramid redPyramid GizahPyramids_background": "pyramids",
    "chateaudeChenonceau Chenonceau_background": "chenonceau",
    "eiffelTower TourEiffel_background": "eiffel_tower",
    "neuschwansteinCastle Neuschwanstein_background": "neuschwanstein",
    "tajMahal TajMahal_background": "taj_mahal",
    "chameleon chamaeleon": "chameleon",
    "cat kitten": "cat",
    "cow calf": "cow",
    "duck gosling swans": "waterfowl",
    "gibbon gorilla lemur long_nosed_monkey macaque": "primate",
    "goat nubian_ibex sheep": "goat",
    "panda red_panda": "panda",
    "alpaca camels": "camel",
    "cheetah jaguar": "big_cat",
    "heron spoonbills": "wader",
    "sea1 sea2 sea3 sea4 sea5 sea6": "sea_floor",
    "FreshFlower Garden TwoWings YellowFlower flower": "flower",
    "Blinds RainDrops": "leaf",
    "BytheWater ColdRipple": "jetty",
    "DarkestHour summer_1am": "lake_at_dusk",
    "ireland mexico orchestra": "concert",
}
