"""The words that the simulated histories speak with: topics, tasks and fillers of our own making."""

DOMAINS: dict[str, tuple[str, ...]] = {
    "kitchen": ("sourdough starters", "knife sharpening", "lentil soup", "pressure cookers", "pickled cabbage", "pastry fat"),
    "astronomy": ("binary stars", "solar sails", "lunar dust", "the Oort cloud", "gravity assists", "radio telescopes"),
    "law": ("tenancy deposits", "patent claims", "small-claims courts", "escrow accounts", "trade marks", "witness statements"),
    "gardening": ("tomato blight", "raised beds", "compost temperature", "pruning apple trees", "soil acidity", "mulch"),
    "music": ("modal jazz", "violin varnish", "counterpoint", "drum tuning", "field recordings", "choir warm-ups"),
    "finance": ("bond ladders", "invoice factoring", "index funds", "inflation swaps", "cash-flow plans", "audit trails"),
    "biology": ("mitochondria", "slime moulds", "bird migration", "coral bleaching", "enzyme kinetics", "seed banks"),
    "programming": ("binary search", "race conditions", "hash maps", "unit tests", "garbage collection", "date parsing"),
    "travel": ("night trains", "packing cubes", "mountain huts", "visa queues", "ferry timetables", "city bicycles"),
    "history": ("Hanseatic trade", "canal locks", "printing presses", "the spice routes", "medieval guilds", "steam pumps"),
    "sport": ("interval running", "sailing knots", "climbing grades", "penalty kicks", "rowing technique", "chess openings"),
    "medicine": ("wound dressings", "vaccine storage", "sleep apnoea", "hand hygiene", "knee rehabilitation", "blood types"),
    "physics": ("superconductors", "tidal forces", "optical fibres", "heat pumps", "friction", "neutrino detectors"),
    "education": ("spaced repetition", "seating plans", "science fairs", "essay feedback", "reading aloud", "school gardens"),
    "business": ("pricing pages", "hiring panels", "supplier audits", "churn surveys", "stand-up meetings", "warehouse layout"),
    "crafts": ("bookbinding", "leather dye", "wood joints", "glazing pottery", "sock knitting", "stained glass"),
    "ethics": ("whistle-blowing", "animal testing", "white lies", "data ownership", "fair wages", "organ donation"),
    "geography": ("river deltas", "permafrost", "time zones", "volcanic soils", "fjords", "desert wells"),
    "language": ("loan words", "silent letters", "verb aspect", "sign languages", "crossword clues", "spelling reforms"),
    "machines": ("bicycle gears", "lift brakes", "wind turbines", "sewing machines", "tower cranes", "printer jams"),
    "nature": ("beaver dams", "moss", "thunderstorms", "hedgehogs", "tide pools", "autumn leaves"),
    "home": ("loft insulation", "squeaky floors", "paint primers", "fuse boxes", "damp walls", "moving house"),
    "films": ("documentary editing", "silent comedies", "stop motion", "subtitles", "location scouting", "film scores"),
    "maths": ("prime gaps", "Bayes' theorem", "knot invariants", "long division", "random walks", "magic squares"),
}
TOPICS: tuple[str, ...] = tuple(topic for topics in DOMAINS.values() for topic in topics)

TASKS: tuple[str, ...] = (
    "Explain {a} to a curious ten-year-old.",
    "Write a short story in which {a} and {b} decide the ending.",
    "List seven common mistakes people make with {a}, with a remedy for each.",
    "Compare {a} with {b}. Which matters more, and why?",
    "Draft a letter to a newspaper that argues for more public money for {a}.",
    "Compose a limerick about {a}.",
    "What would change in daily life if {a} had never existed?",
    "Give me a quiz of five questions on {a} and their answers.",
    "Summarise the main schools of thought on {a}.",
    "Invent a dialogue between a sceptic and an enthusiast of {a}.",
    "Outline a one-hour lesson about {a} for adult beginners.",
    "Propose an experiment that tests a popular belief about {a}.",
    "How did the study of {b} influence {a}?",
    "Turn the following idea into a product pitch: {a} for people who like {b}.",
    "Describe {a} without using the letter e.",
    "Rank three methods of dealing with {a} by cost.",
    "Make a table of terms used in {a}, with a plain definition of each.",
    "A friend is afraid of {a}. What do you tell her?",
    "Suggest ten titles for a podcast on {a}.",
    "Prove or refute: every problem of {a} is at bottom a problem of {b}.",
    "Write the opening paragraph of an encyclopaedia entry on {a}.",
    "What questions should a journalist ask an expert on {a}?",
    "Estimate how many people worldwide earn a living from {a}; show the steps.",
    "Translate the saying 'no smoke without fire' into an example from {a}.",
    "Plan a weekend workshop on {a} with a budget and a timetable.",
    "Which three books would you put on a reading list about {a}?",
    "Find the flaw: 'Since {a} is old, {b} must be older.'",
    "Write a riddle whose answer is {a}.",
    "Name the risks of {a} that beginners overlook.",
    "Rewrite a dull manual page about {a} as a friendly guide.",
)
STYLES: tuple[str, ...] = (
    "", "", "", " Keep it under two hundred words.", " Use three examples.", " Be precise.", " Add one counter-example.",
    " Write it for experts.", " Use a warm tone.", " End with a question.", " Use British spelling.",
)
FOLLOW_UPS: tuple[str, ...] = (
    "thanks, and what about {a}?", "can you say that more simply?", "why is that?", "ok and how long does it take",
    "I meant the other one", "could you check that again please", "and if it does not work?", "great, one more about {a}",
    "what does that cost", "is there anything else I should know", "shorter please", "no, the first one",
)
QUESTIONS: tuple[str, ...] = (
    "hi, my {a} question again", "how do I start with {a}", "what is the best way to learn {a}", "help with {a} please",
    "is {a} hard?", "I read about {a} yesterday, what do you think", "quick one about {a}", "where do I find more on {a}",
)
PRODUCTS: tuple[str, ...] = ("lamp", "kettle", "desk", "jacket", "tent", "backpack", "chair", "speaker", "mug", "bicycle")
FINISHES: tuple[str, ...] = ("oak", "steel", "linen", "ceramic", "cork", "wool", "glass", "bamboo", "copper", "canvas")
NAMES: tuple[str, ...] = ("Arle", "Brisk", "Cobalt", "Dune", "Ember", "Fjell", "Grove", "Hollow", "Iris", "Juniper")
TROUBLES: tuple[str, ...] = (
    "the parcel {n} has not arrived", "I was charged twice for order {n}", "the app closes when I open invoice {n}",
    "please change the address of order {n}", "password reset mail for user {n} never came", "refund {n} is still missing",
    "the colour of item {n} is wrong", "how do I cancel subscription {n}", "coupon {n} is not accepted", "item {n} broke",
)
MOODS: tuple[str, ...] = ("this is urgent", "no hurry", "third time I write", "thank you", "I am quite annoyed", "best wishes")
