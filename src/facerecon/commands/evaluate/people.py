"""The command `facerecon evaluate people`: are a person's two photographs the same face?"""

import argparse
import warnings

from facerecon.coarsenet import CoarseNet
from facerecon.commands.evaluate.results import Results, refined_by
from facerecon.evaluation.people import (
    PeopleError,
    PeopleWarning,
    fit_people,
    identity_distances,
    list_people,
    mean_point_errors,
    point_errors,
    recognition,
)
from facerecon.morphable_model import MorphableModel
from facerecon.shape_from_normals import ShapeFromNormals
from facerecon.weights import load_normalnet


def evaluate(args: argparse.Namespace, network: CoarseNet, model: MorphableModel) -> Results:
    """Print how well the shapes tell people apart; the JSON file gets every person's values."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PeopleWarning)
        known = network, model, list_people(args.folder)[: args.count], args.iterations
        shape = ShapeFromNormals.after(network, model, load_normalnet().to(args.device))
        people, shaped = fit_people(*known), fit_people(*known, shape)
    told = {str(each.message): None for each in caught if issubclass(each.category, PeopleWarning)}
    for message in told:  # once, though everyone is fitted twice
        print(message)
    if len(people) < 2:
        raise PeopleError(f"{args.folder}: faces were found of {len(people)} people; needs two")
    distance = identity_distances(model, people)
    found, errors = recognition(distance), mean_point_errors(people)
    after = recognition(identity_distances(model, shaped))
    print(
        f"{len(people)} people, the smiling photograph against all neutral ones, by the identity's"
        " shape"
    )
    for name, values in (("CoarseNet", found), ("after shape from normals", after)):
        print(
            f"{name}: rank-1 {values['rank_1']:.2f}, AUC {values['auc']:.3f}; distance"
            f" {values['within_mm']:.2f} mm within a person, {values['between_mm']:.2f} mm between"
            " two"
        )
    if errors:
        parts = ", ".join(f"{part} {value:.1f}" for part, value in errors.items())
        print(f"from the hand-set points, percent of the outer eye corners' distance: {parts}")
    rows = {
        person.name: {
            "nearest": people[int(distance[i].argmin())].name,
            "own_mm": distance[i, i].item(),
            "points": {}
            if person.points is None
            else point_errors(person.landmarks, person.points),
        }
        for i, person in enumerate(people)
    }
    content = {"recognition": found, "recognition_by_normals": after, "points": errors}
    normals = {"normalnet": refined_by(None, None)["normalnet"]}
    return Results({"refined_by": normals} | content | {"people": rows}, {})
