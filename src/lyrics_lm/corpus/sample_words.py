"""The words and sentence shapes of the sample songs: data alone, all of it made up for this repository.

In a shape, `{name}` stands for one of `WORDS[name]` or `PHRASES[name]`, and `#` for the rhyming word.
"""

WORDS = {
    "thing": """anchor apron arrow atlas banjo basket blanket bottle bucket button camera candle carpet compass
        curtain diary engine envelope feather fiddle flag glove guitar hammer harmonica hat jacket jukebox kettle key
        ladder lantern letter locket map matchbook mattress medal mirror needle newspaper notebook pencil photograph
        piano pillow pistol pocketknife postcard radio razor record ribbon saddle sail satchel scarf shovel suitcase
        sweater telephone ticket toothbrush trumpet typewriter umbrella violin wagon wallet watch whistle""",
    "place": """airport alley attic avenue balcony ballroom barn basement bakery boulevard café bridge canyon carnival
        cathedral cellar cemetery chapel corner courthouse crossroads desert diner doorway factory farm ferry field
        garage garden gymnasium harbor highway hillside hospital hotel island junction kitchen library lighthouse
        market meadow motel mountain museum orchard parking-lot pier porch prairie railway rooftop saloon school
        station subway supermarket swamp theater tunnel valley village vineyard warehouse waterfall workshop""",
    "person": """actress astronaut baker banker barber beggar boxer bride brother captain carpenter colonel cowboy
        cousin daughter dancer doctor driver drummer farmer father fisherman gambler ghost gypsy hunter janitor judge
        lawyer lover magician mailman mayor mechanic miner mother neighbor nurse painter pilot pirate poet preacher
        prisoner professor queen sailor sheriff sister soldier stranger tailor teacher waitress widow""",
    "animal": """bear butterfly coyote cricket crow dolphin donkey dragonfly eagle elephant falcon firefly
        fox hawk heron horse hound jackal lion magpie mockingbird moth mule nightingale otter owl panther peacock
        pelican pigeon raven robin rooster shark sparrow spider swallow tiger turtle whale wildcat""",
    "adj": """ancient angry awful bitter blind borrowed brave broken burning careless cheap clever cold crooked cruel
        crowded curious distant dusty electric empty endless faded faithful famous fearless foolish forgotten fragile
        frozen gentle golden graceful greedy guilty happy heavy hidden holy homemade honest hungry innocent jealous
        lazy lonesome lucky magic midnight narrow nervous ordinary painted patient perfect plastic polite quiet
        reckless restless rotten rusty sacred scarlet secret selfish shallow silent silver simple sleepless slow
        stolen stubborn sudden sweet tender thirsty tired ugly velvet violent wasted weary wicked
        wild wooden wounded yellow""",
    "feeling": """anger beauty blame comfort courage danger desire devotion faith fever freedom glory grace grief
        happiness honor hope hunger innocence jealousy joy justice kindness laughter loneliness luck madness memory
        mercy misery money music patience peace pleasure poison power pride promise regret revenge sadness shame
        silence sorrow sympathy temptation thunder trouble trust truth wisdom wonder worry""",
    "verb": """abandon answer believe borrow break bring bury buy call carry catch chase climb count cover deny describe
        destroy draw dream drive drown escape explain fear fight find follow forget forgive gather guard hide hold hunt
        imagine invent invite keep kiss learn leave lose love marry measure mend miss need offer open paint play
        promise protect read recognize refuse remember rescue ride save sell serve shake sing steal surrender swallow
        teach tear touch trade trust understand visit wake want wash watch whisper""",
    "did": """abandoned answered borrowed broke brought buried called carried caught chased climbed counted covered
        crossed danced denied drew dreamed drove fed followed forgot forgave found gathered held hid hunted ignored
        invented kept kissed knew left lost loved married measured mended missed moved needed offered opened painted
        passed played promised pulled pushed raised reached remembered rescued sang saved shook sold stole swallowed
        taught told touched traded trusted turned understood visited wanted washed watched whispered wrote""",
    "time": """Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February April August September
        October November December Christmas midnight noon daybreak sundown springtime summer autumn winter""",
    "name": """Adeline Angela Arthur Bernadette Caroline Chloé Cassandra Charlie Daisy Delilah Edgar Eleanor Emmett
        Esther Florence Frankie George Gloria Harriet Hector Ingrid Isaac Jasmine Jeremiah José Josephine Katya Lola
        Lucinda Malcolm Marguerite Maxine Nathan Nora Olivia Oscar Penelope Quentin Ramona Roscoe Sebastian Stella
        Theodore Ursula Valentine Veronica Wallace Winona Yolanda Zachary Zoë""",
    "city": """Amsterdam Baltimore Barcelona Birmingham Boston Buenos-Aires Cairo Calcutta Denver Dublin Edinburgh
        Glasgow Havana Istanbul Kingston Lisbon Málaga Manchester Memphis Mexico Montreal Moscow Nairobi Naples
        Oklahoma Oslo Philadelphia Prague Reno Savannah São-Paulo Shanghai Sheffield Stockholm Tijuana Tulsa Warsaw""",
    "number": "two three four five seven nine ten eleven twelve twenty forty fifty sixty ninety a-hundred a-thousand",
    "color": "amber black blue brown copper crimson green grey indigo ivory orange pink purple red silver violet white",
    "adlib": "baby darling honey brother sister mama people children stranger",
    "modal": "can could cannot might must never should will won't would wouldn't used-to try-to have-to",
    "at": "at behind beside inside near outside under by beyond across",
}

PHRASES = {
    "who": "I | you | we | they | she | he | nobody | everybody | {name} | the {person} | my {person} | the {adj} "
    "{person} | {name} and I | a {person} from {city}",
    "them": "me | you | us | them | her | him | {name} | the {person} | your {person} | that {adj} {person}",
    "what": "the {thing} | my {adj} {thing} | your {feeling} | all of this {feeling} | a {color} {thing} | {number} "
    "{animal}s | our {feeling} | every {adj} {person} | the {animal} | his {thing} | her {adj} {thing}",
    "where": "{at} the {place} | {at} the {adj} {place} | in {city} | on the road to {city} | down by the {place}",
    "when": "on {time} | last {time} | since {time} | by {time} | {number} years ago | when the {animal} calls | "
    "before the {thing} falls | after the {feeling} | until {time}",
    "and": "and | but | so | while | because | though | and then",
    "deed": "{did} {what} | {did} {them} | {modal} {verb} {what} | {modal} {verb} {them} {when} | {did} {what} {where}",
    "like": "like a {animal} | like the {person} {where} | as {adj} as a {thing} | like {feeling} | "
    "like {number} {thing}s",
    "sound": "oh | ooh | hey | yeah | la la la | na na na | sha la la | woah | mmm | doo doo doo",
}

# Line shapes by the kind of word that they end on.
LINES = {
    "noun": """{who} {did} {what} {at} the #|{when} {who} {did} the #|there was {feeling} {at} the #
        I {did} {what} for a {adj} #|{what} {and} a {adj} #|{name}, {name}, bring me the #|{like} {at} the #
        {number} {animal}s {at} the {color} #|don't {verb} {them} {at} the #|give me {feeling}, give me the #
        she said {who} {did} the #|no more {feeling}, no more #|where is the {person} who {did} my #?
        the {person} and the {animal} share the {adj} #|I was born {where} with a {thing} and a #
        {who} {modal} {verb} the {adj} #|somebody, {verb} my {adj} #|it's only {feeling}, it's only a #
        all the {person}s of {city} {did} the #|take {what} back to the #|{who} {deed}, what a #
        my {thing} is a {adj} #|between the {thing} and the #|one {adj} {thing}, one {adj} #|under a {color} #""",
    "verb": """{who} {modal} {verb} {them} {when} {and} #|tell {them} {who} {modal} #|I will {verb} {what} and #
        {what} made me #|never {verb} {them}, never #|{when} I {modal} #|{like}, we #|you {verb}, I #
        {where} the {person}s all #|don't let {them} #|all of my {feeling}s #|it takes {feeling} to #
        I {did} {them} {and} they #|and how the {animal}s #|if {who} {deed}, then I #|teach me {like} to #
        there's a {time} for {them} to #|I {modal} {verb} before I #|watch the {color} {thing}s #!
        every {time} we #|so hard to {verb}, so easy to #|{who} {did} me {where} just to #""",
    "adj": """the {place} was {adj} and #|{who} {did} {them} {when}, so #|nothing in {city} is #
        your {thing} is {adj}, my {feeling} is #|I {did} {what} and it turned #|{like}, {adj} and #
        {when} everything was #|{who} {modal} {verb} if the {feeling} is #|and the {animal} is #
        {name} said the {place} is #|too {adj} to {verb}, too #|they {did} {what} till it was #
        how the {feeling} {where} felt so #|{number} {person}s, {adj} and #|we {deed} {and} we were #""",
}

# Words that rhyme, by kind.
RHYMES = """
    noun: night light fight kite flight sight knight | verb: write bite fight ignite invite | adj: bright right tight
    noun: rain train chain pain plane window-pane lane | verb: remain explain complain refrain | adj: plain insane vain
    noun: day way bay highway clay holiday bouquet | verb: stay pray sway obey decay | adj: grey okay astray
    noun: fire wire choir liar desire spire | verb: tire expire admire retire | adj: dire higher
    noun: heart chart cart art part | verb: start depart fall-apart | adj: smart
    noun: sea tree key melody bee memory jubilee | verb: agree flee see disagree | adj: free
    noun: moon tune June spoon balloon afternoon lagoon | verb: swoon croon | adj: soon
    noun: road load code toad abode | verb: explode erode corrode | adj: slowed owed
    noun: door floor shore war store roar dinosaur | verb: explore ignore implore pour | adj: poor sore
    noun: sky lie eye butterfly lullaby goodbye | verb: cry die fly deny rely | adj: high dry shy
    noun: stone bone phone throne loan | verb: moan groan postpone | adj: alone grown unknown
    noun: gold cold household | verb: hold fold unfold | adj: old bold sold
    noun: hand land band sand contraband | verb: stand understand demand | adj: grand
    noun: name flame game frame shame | verb: blame tame proclaim | adj: same lame
    noun: street seat heat beat wheat parakeet | verb: repeat cheat meet retreat | adj: sweet discreet
    noun: bell well hotel shell spell | verb: tell yell dwell | adj: swell
    noun: ground sound hound merry-go-round | verb: surround | adj: round bound profound
    noun: bed thread bread thunderhead | verb: spread shed | adj: red dead misread
    noun: song gong throng | verb: belong prolong | adj: long wrong strong
    noun: blue shoe view avenue tattoo | verb: pursue renew | adj: true new
    noun: snow window rainbow bow piano | verb: go know grow glow | adj: low slow
    noun: glass grass mass looking-glass | verb: pass surpass | adj: crass
    noun: tower hour flower shower | verb: devour cower | adj: sour
    noun: ocean motion devotion potion lotion | verb: set-in-motion | adj: in-slow-motion
"""

# How each genre sounds: fewest and most words of a line, rhymes of a verse, shape of a song (verse, prelude,
# chorus, bridge), share of lines with a call.
GENRES = {
    "folk": (5, 10, "ABCB", "VVCVC", 0.02),
    "country": (6, 12, "AABB", "VCVBC", 0.05),
    "punk": (2, 6, "ABAB", "VCVCC", 0.10),
    "soul": (4, 9, "AABB", "CVCBC", 0.30),
    "pop": (3, 8, "ABAB", "VPCVPC", 0.20),
    "ballad": (6, 11, "ABABCC", "VVBV", 0.0),
    "dance": (2, 5, "AA", "CVCVCBC", 0.40),
    "rap": (8, 14, "AABBCCDD", "VCV", 0.12),
}

ARTISTS = (
    "The {Adj} {Animal}s | {name} {Person} | {name} and the {Thing}s | {Adj} {Place} | The {Person}s of {city} | "
    "{name} {name} | {Color} {Animal} | The {number} {Thing}s | {city} {Feeling} | DJ {Thing}"
)
TITLES = (
    "{Adj} {Thing} | {name} | The {Person} And The {Animal} | {Feeling} In {city} | {Time} {Feeling} | "
    "{Color} {Thing} | My {Adj} {Person} | {city} | {Verb} {Feeling} | No {Feeling} | {Number} {Animal}s | "
    "{Adj} {Time} | The {Place} | {Verb} Me {name} | {Feeling} And {Feeling} | "
    "A {Thing} For {name} | {Animal} On The {Place}"
)
