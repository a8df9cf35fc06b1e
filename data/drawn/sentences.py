"""Problem 6's built-in set: review sentences from a grammar. In half of them single words decide the label.

In the others the word order does: negation, contrast, past and present, comparison. One label in fifty is wrong.
"""

import random
import re

COUNTS = {"train": 30_000, "dev": 5_000, "test": 5_000, "unlabelled": 5_000}
WRONG = 0.02  # the share of wrong labels
LENGTHS = range(5, 16)  # tokens of a sentence, as in the course's files

WORDS = {  # replacements for the capital words of templates; G: good, B: bad, others: neutral
    "ADJECTIVE-G": """
        good, great, excellent, delicious, wonderful, amazing, fantastic, perfect, fresh, friendly, lovely, superb,
        outstanding, tasty, pleasant, charming, delightful, impressive, brilliant, helpful, flawless, attentive,
        juicy, crisp, generous, gorgeous, memorable, cozy, spotless, heavenly, terrific, awesome, marvelous,
        satisfying, splendid, warm, exquisite, inviting, stellar, fabulous, exceptional, divine, nice, cheerful,
        remarkable""",
    "ADJECTIVE-B": """
        bad, terrible, awful, horrible, disgusting, mediocre, bland, rude, dirty, stale, overpriced, disappointing,
        dreadful, soggy, greasy, filthy, unpleasant, slow, cold, careless, clumsy, boring, tasteless, burnt, noisy,
        ugly, sloppy, lousy, pathetic, rotten, dull, unfriendly, chaotic, appalling, nasty, miserable, gross, shabby,
        flavorless, tacky, sour, forgettable, grim, atrocious, poor""",
    "VERB-G": "loved, enjoyed, adored, recommend, appreciated, praised, admired, cherished, devoured, savored",
    "VERB-B": "hated, disliked, regretted, returned, avoided, despised, dreaded, cursed, rejected, resented",
    "OUTCOME-G": """
        we left happy, i will be back, it was worth every penny, we had a blast, everybody smiled, we felt at home,
        it made my day, i could not wait to return, we ordered seconds, they won me over""",
    "OUTCOME-B": """
        we left hungry, i will not be back, it was a waste of money, we got sick, everybody complained, we felt
        ignored, it ruined my day, i could not wait to leave, we asked for a refund, they lost me""",
    "MORE-G": "better, fresher, nicer, tastier",
    "MORE-B": "worse, duller, blander, ruder",
    "THING": """
        soup, pizza, burger, salad, steak, pasta, sandwich, taco, burrito, curry, sushi, ramen, omelette, pancake,
        waffle, dessert, cake, pie, bread, rice, chicken, lamb, brisket, lobster, shrimp, salmon, tofu, hummus,
        falafel, gyro, stew, chili, coffee, espresso, tea, beer, wine, cocktail, lemonade, milkshake, buffet, brunch,
        breakfast, lunch, dinner, menu, appetizer, sauce, gravy, dressing, crust, filling, bacon, sausage, dumpling,
        noodle dish, side dish, special, service, waiter, waitress, hostess, manager, owner, cashier, bartender,
        chef, cook, driver, clerk, receptionist, dentist, barber, stylist, mechanic, plumber, trainer, nurse,
        technician, crew, staff, room, lobby, pool, bathroom, patio, terrace, bar, music, decor, lighting, view,
        parking, location, atmosphere, ambiance, haircut, massage, pedicure, manicure, repair, delivery, room
        service, checkout, website, store, shop, hotel, casino, gym, spa, garage, bakery, deli, diner, cafe, bistro,
        pub, tavern, market, theater, show, tour, workout, class, shuttle, elevator, mattress""",
    "PEOPLE": """
        i, we, my wife and i, my husband and i, my friends, my parents, our kids, everyone, the whole family, my
        boss, the regulars, my sister, my brother, our guests, my date, the neighbors, my coworkers, our group""",
    "DEGREE": """
        very, really, so, quite, rather, truly, pretty, extremely, incredibly, just, always, simply, fairly, totally""",
    "OPENER": """
        honestly, overall, again, well, to be fair, on monday, last night, this time, as usual, in short, sadly or
        not, for $ _num_, after _num_ minutes, at noon, on our trip, in the end, oddly enough, on a friday, over the
        weekend, yesterday""",
    "CLOSER": """
        for $ _num_, at lunch, on a busy night, near the airport, with my parents, in the morning, after work, by the
        way, since they moved, downtown, for a birthday, after _num_ minutes, this year, on weekends, every time, in
        my opinion, across the street, for _num_ people, around here, on the strip""",
    "OTHER": "next door, across the street, down the road, in the mall, at the airport, downtown, around the corner",
}  # fmt: skip
TEMPLATES = {  # {pattern: (share, templates)}; A: words that match the label, C: the opposite; [ ] is optional
    "words decide": (0.54, """
        the [NAME] THING was [DEGREE] ADJECTIVE-A [CLOSER]
        the THING and the THING were [DEGREE] ADJECTIVE-A
        the [NAME] THING was ADJECTIVE-A and the THING [DEGREE] ADJECTIVE-A
        PEOPLE VERB-A the [NAME] THING [CLOSER]
        the THING at NAME was [DEGREE] ADJECTIVE-A [CLOSER]
        PEOPLE VERB-A the ADJECTIVE-A THING at NAME
        ADJECTIVE-A THING , ADJECTIVE-A THING , and OUTCOME-A
        [DEGREE] ADJECTIVE-A [NAME] THING [CLOSER]
        NAME has a [DEGREE] ADJECTIVE-A THING [CLOSER]
        what a ADJECTIVE-A THING , OUTCOME-A
        the NAME THING is MORE-A than before
        OUTCOME-A because the THING was ADJECTIVE-A"""),
    "negation": (0.16, """
        the [NAME] THING was not [DEGREE] ADJECTIVE-C [CLOSER]
        the [NAME] THING was n't [DEGREE] ADJECTIVE-C [CLOSER]
        there was nothing ADJECTIVE-C about the [NAME] THING [CLOSER]
        PEOPLE never had a ADJECTIVE-C THING at NAME
        nobody could call the [NAME] THING [DEGREE] ADJECTIVE-C
        the THING was not ADJECTIVE-C , nor was the THING
        not one THING at NAME was ADJECTIVE-C"""),
    "contrast": (0.16, """
        the THING was [DEGREE] ADJECTIVE-C , but OUTCOME-A
        the [NAME] THING was ADJECTIVE-C but the THING was [DEGREE] ADJECTIVE-A
        although the THING was ADJECTIVE-C , OUTCOME-A
        OUTCOME-A , though the THING was [DEGREE] ADJECTIVE-C
        the [NAME] THING was ADJECTIVE-A , even if the THING was ADJECTIVE-C
        PEOPLE VERB-A the THING despite the ADJECTIVE-C THING
        despite the ADJECTIVE-C THING , PEOPLE VERB-A the THING"""),
    "now and then": (0.07, """
        the [NAME] THING used to be ADJECTIVE-C , now it is [DEGREE] ADJECTIVE-A
        the [NAME] THING is ADJECTIVE-A now , it used to be [DEGREE] ADJECTIVE-C
        i expected a ADJECTIVE-C THING and got a ADJECTIVE-A one [CLOSER]
        i got a ADJECTIVE-A THING where i expected a ADJECTIVE-C one"""),
    "comparison": (0.07, """
        unlike the ADJECTIVE-C THING OTHER , this THING was ADJECTIVE-A
        this THING was ADJECTIVE-A , unlike the ADJECTIVE-C THING OTHER
        compared to the ADJECTIVE-C THING at NAME this one is ADJECTIVE-A
        MORE-A than the ADJECTIVE-C THING OTHER [CLOSER]"""),
}  # fmt: skip
SYMBOL = re.compile(r"\b([A-Z]{2,})(?:-([AC]))?\b")
SYLLABLES = """ba be bo ca chi co da del do el fa fi ga go ha i ka ki la li lo ma mi mo na ni no o pa po ra ri ro sa si
    ta ti to va zo""".split()

CHOICES = {name: [" ".join(phrase.split()) for phrase in text.split(",")] for name, text in WORDS.items()}
SHARES = [share for share, _ in TEMPLATES.values()]
KINDS = [[line.strip() for line in text.strip().splitlines()] for _, text in TEMPLATES.values()]


def splits(seed=0, counts=COUNTS):
    """{name: `counts[name]` lines of a label and a sentence; for "unlabelled" only a sentence}. All are distinct."""
    rng = random.Random(seed)
    names, seen, lines = invented_names(rng), set(), {}
    for name, count in counts.items():
        lines[name] = []
        while len(lines[name]) < count:
            label = len(lines[name]) % 2  # as many good as bad ones
            sentence = draw(rng, label, names)
            if sentence not in seen:
                seen.add(sentence)
                shown = label ^ (rng.random() < WRONG)
                lines[name].append(sentence if name == "unlabelled" else f"{shown} {sentence}")
        rng.shuffle(lines[name])
    return lines


def draw(rng, label, names):
    """One sentence with `label` (1 good, 0 bad), 5 to 15 tokens. names: choices for NAME, most frequent first."""
    while True:
        template = rng.choice(rng.choices(KINDS, SHARES)[0])
        text = re.sub(r"\[(.*?)\] ?", lambda m: f"{m[1]} " if rng.random() < 0.5 else "", template)
        text = SYMBOL.sub(lambda m: word(rng, m[1], m[2], label, names), text).strip()
        text = re.sub(r"\ba (?=[aeiou])", "an ", text)
        if rng.random() < 0.25:
            text = f"{rng.choice(CHOICES['OPENER'])} , {text}"
        text += rng.choices([" .", " !", ""], [0.86, 0.16 if label else 0.08, 0.04])[0]
        if len(text.split()) in LENGTHS:
            return text


def word(rng, symbol, side, label, names):
    """A random replacement for a capital word of a template; the first words of each list are the most frequent."""
    if symbol == "NAME":
        return names[int(len(names) * rng.random() ** 3)]
    if side:
        symbol += "-G" if (side == "A") == bool(label) else "-B"
    return CHOICES[symbol][int(len(CHOICES[symbol]) * rng.random() ** 1.7)]


def invented_names(rng, count=8000):
    """Invented names of places. As in real reviews, most names are rare."""
    names = {}
    while len(names) < count:
        names["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) + rng.choice(["", "", "n", "r", "s"])] = None
    return list(names)
