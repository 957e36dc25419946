"""Writes data/caution/caution.jsonl: what a careful assistant says to somebody who describes a complaint.

    python make_caution.py

The entries below were written for this project from common first-aid knowledge (what every leaflet says); nobody with a medical licence has
checked them. Each complaint is one document, so that splits hold out whole complaints. Seeded: the same bytes every time.
"""

import json
import random
from pathlib import Path

# complaint as a person says it; what it often is; what to do at home; signs that mean a doctor soon; signs that mean an ambulance now
COMPLAINTS = [
    ("a headache", "tension, too little sleep or too little water", "rest in a quiet room and drink water", "it comes back for more than a few days, wakes you at night or follows a blow to the head", "it is sudden and the worst of your life, or comes with a stiff neck, confusion, weakness or trouble speaking"),
    ("chest pain", "many things, and some of them are dangerous", "stop what you are doing and sit down", "it comes when you exert yourself and goes when you rest", "it presses, spreads to the arm or jaw, or comes with sweating or short breath"),
    ("a fever", "an infection that the body is fighting", "rest, drink plenty and wear light clothes", "it lasts more than three days or rises above 39.5 degrees", "it comes with a stiff neck, a rash that does not fade, confusion or a fit"),
    ("a sore throat", "a virus that passes within a week", "drink warm fluids and rest your voice", "it lasts more than a week, or you have a high fever or swollen glands", "you cannot swallow your own saliva or have trouble breathing"),
    ("a cough", "a cold that is getting better", "drink warm fluids and keep away from smoke", "it lasts more than three weeks, or you lose weight or cough up blood", "you are short of breath at rest or your lips turn blue"),
    ("stomach pain", "something you ate, wind or constipation", "eat lightly and drink small sips of water", "it lasts more than a day or two, or comes back often", "it is severe and sudden, the belly is hard, or you vomit blood"),
    ("diarrhoea", "an infection or something you ate", "drink water with a little salt and sugar in it", "it lasts more than two days in a child or a week in an adult", "there is much blood, or you faint or hardly pass water"),
    ("vomiting", "an infection of the stomach", "take small sips of water often", "it lasts more than two days or you cannot keep water down", "there is blood in it, or it comes with a stiff neck or severe pain"),
    ("a skin rash", "an irritation or an allergy", "keep the skin cool and do not scratch", "it spreads, hurts, blisters or lasts more than a week", "it does not fade when you press a glass on it, or your face or tongue swells"),
    ("back pain", "a strained muscle", "keep moving gently and use warmth", "it lasts more than six weeks or runs down the leg", "you lose feeling between the legs or control of bladder or bowels"),
    ("dizziness", "standing up too fast or too little water", "sit or lie down and drink water", "it keeps coming back or you hear less on one side", "it comes with a drooping face, weakness, chest pain or trouble speaking"),
    ("a nosebleed", "dry air or a small injury", "lean forward and pinch the soft part of the nose for ten minutes", "it comes back often or you take medicine that thins the blood", "it does not stop after twenty minutes or followed a heavy blow to the head"),
    ("an earache", "an infection that often passes by itself", "rest and keep the ear dry", "it lasts more than three days or fluid comes out of the ear", "there is swelling behind the ear with high fever, or the face droops"),
    ("a burn", "heat on the skin", "cool it under running water for twenty minutes", "it is larger than the palm of your hand, blistered, or on the face or hands", "it is deep, white or charred, or smoke was breathed in"),
    ("a sprained ankle", "stretched ligaments", "rest it, cool it and raise it", "you cannot put weight on it after a few days", "the foot is cold, numb or at an odd angle"),
    ("trouble sleeping", "worry, light or habits", "keep regular hours and avoid screens and coffee in the evening", "it lasts more than a month and spoils your days", "you think of harming yourself"),
    ("tiredness that does not go away", "too little sleep, stress or a lack of iron", "keep regular hours and eat well", "it lasts more than a few weeks, or you lose weight without trying", "it comes with chest pain or short breath"),
    ("shortness of breath", "many things, and some of them are dangerous", "sit upright and stay calm", "it comes back when you exert yourself or lie flat", "it is sudden, or you cannot finish a sentence or your lips turn blue"),
    ("a swollen leg", "standing or sitting for long", "raise the leg when you rest", "it does not go down overnight", "one leg is suddenly swollen and painful, or you are also short of breath"),
    ("pain when passing water", "an infection of the bladder", "drink plenty of water", "it lasts more than two days, or you are pregnant or a man", "you have fever with chills and pain in the side"),
    ("blood in the stool", "piles, but also other things", "note the colour and how much it is", "you see it at all: it should be looked at", "there is much of it, or it is black and sticky and you feel faint"),
    ("a lump in the breast", "a harmless cyst in most cases", "do not press it again and again", "you feel it at all: every new lump should be looked at within two weeks", "the breast is hot and red and you have a high fever"),
    ("a mole that has changed", "harmless in many cases", "take a photograph with a ruler beside it", "it grows, bleeds, itches or has an uneven edge or colour", "it bleeds and cannot be stopped"),
    ("heartburn", "acid from the stomach", "eat smaller meals and do not lie down after them", "it comes on most days for three weeks or swallowing hurts", "the pain presses on the chest or spreads to the arm or jaw"),
    ("constipation", "too little fibre, water or movement", "eat fruit and whole grain and drink water", "it lasts more than three weeks or there is blood", "the belly is swollen and hard and you vomit"),
    ("a stiff neck", "a strained muscle", "use warmth and move it gently", "it lasts more than a week or the arm feels numb", "you also have fever, headache and light hurts your eyes"),
    ("red eyes", "an irritation or an infection", "wash your hands often and leave out contact lenses", "it lasts more than a week or there is much discharge", "it hurts, your sight has changed or a chemical got in"),
    ("a bee sting", "a reaction of the skin to the venom", "scrape the sting out and cool the skin", "the swelling grows for more than a day", "your face or throat swells or breathing is hard"),
    ("palpitations", "coffee, stress or too little sleep", "sit down and breathe slowly", "they come back often", "they come with chest pain, fainting or short breath"),
    ("numbness in one hand", "a nerve pressed by the way you slept or work", "shake and move the hand", "it lasts more than a few days or wakes you at night", "it came suddenly with weakness, a drooping face or trouble speaking"),
    ("weight loss without trying", "many things, some of them serious", "write down your weight each week", "you have lost more than five kilograms in a few months", "you can no longer eat or drink"),
    ("a cut on the finger", "a wound that usually heals by itself", "press on it with a clean cloth and wash it with water", "it gapes, is dirty, or your tetanus vaccination is old", "the blood spurts or does not stop after ten minutes of pressing"),
    ("a bump on the head", "a bruise", "rest and cool it", "the headache lasts or you are sick once or twice", "you were unconscious, are confused, keep vomiting or have a fit"),
    ("toothache", "a decayed or cracked tooth", "rinse with warm salt water", "it lasts more than a day or two: see a dentist", "the face swells and you have fever or trouble swallowing"),
    ("itching all over", "dry skin in most cases", "use a plain cream and short, cool showers", "it lasts more than two weeks or the eyes turn yellow", "the lips or tongue swell"),
    ("leg cramps at night", "tired muscles", "stretch the calf and walk a little", "they come on most nights", "the leg is swollen, hot and painful"),
    ("a hoarse voice", "a cold or shouting", "rest the voice and drink water", "it lasts more than three weeks", "breathing is noisy or hard"),
    ("a panic attack", "a burst of fear that passes", "breathe out slowly and stay where you are", "they come back or you avoid things for fear of them", "there is chest pain that presses and you have never had this before"),
    ("feeling sad all the time", "a depression that can be treated", "talk with somebody you trust and keep a daily routine", "it lasts more than two weeks", "you think of ending your life"),
    ("a fainting spell", "standing long, heat or fright", "lie down with raised legs", "it happened more than once or without a warning", "it came during exercise, with chest pain, or you did not come round quickly"),
    ("a painful, swollen joint", "an injury or an inflammation", "rest and cool it", "it lasts more than a few days", "it is hot and red and you have a fever"),
    ("yellow skin or eyes", "a problem of the liver or of the bile", "do not drink alcohol", "you see it at all: it should be looked at within a day", "you are confused, or have fever and severe pain"),
    ("hay fever", "an allergy to pollen", "keep windows shut and rinse the nose with salt water", "it spoils your sleep or your chest feels tight", "breathing is hard or the throat swells"),
    ("a migraine", "an attack that passes within a day or two", "lie down in a dark room early", "attacks come more than four times a month", "it is unlike your usual one, or you are weak on one side"),
    ("missed periods", "pregnancy, stress or weight change", "make a pregnancy test", "three in a row are missed and you are not pregnant", "you have severe pain low in the belly or faint"),
    ("a baby with a fever", "an infection", "undress the baby a little and offer milk often", "the baby is under three months: any fever should be looked at the same day", "the baby is limp, will not wake, or has a rash that does not fade"),
    ("thirst that does not stop", "heat, salt, or too much sugar in the blood", "drink water and note how much", "it lasts more than a few days or you pass water very often", "you are confused, breathe fast or your breath smells of fruit"),
    ("blurred sight", "tired eyes or the wrong glasses", "rest your eyes", "it comes on slowly and stays", "it came suddenly, or you see flashes or a curtain"),
]

QUESTIONS = [
    "I have {c}. What should I do?",
    "What helps against {c}?",
    "Should I worry about {c}?",
    "Can you tell me what {c} means?",
    "When should I see a doctor about {c}?",
]


def answer(rng, entry):
    complaint, cause, home, soon, now = entry
    opening = rng.choice([
        f"I cannot examine you, but {complaint} is often {cause}." if not cause.startswith(("many", "you")) else f"I cannot examine you, and {complaint} can be {cause}.",
        f"Often it is {cause}; only a doctor can say for certain.",
        f"It is often {cause}. I am not a doctor and cannot see you.",
    ])
    return " ".join([
        opening,
        f"For now, {home}.",
        rng.choice(["See a doctor if", "Please see a doctor if", "Make an appointment with a doctor if"]) + f" {soon}.",
        rng.choice(["Call an ambulance at once if", "Call the emergency number at once if"]) + f" {now}.",
    ])


def main():
    rng = random.Random(1)
    out = Path(__file__).parent.parent / "data" / "caution" / "caution.jsonl"
    with out.open("w") as file:
        for entry in COMPLAINTS:
            for question in QUESTIONS:
                record = {
                    "question": question.format(c=entry[0]), "answer": answer(rng, entry), "document": f"complaint: {entry[0]}"
                }
                file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
