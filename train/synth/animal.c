/* A skeleton is built in space (x forward, y up, z to the animal's right), as
 * limbs between joints whose angles are drawn; feet stand on the ground. Then it is turned
 * and projected. */
#include "train/synth/animal.h"

#include <math.h>

static float between(struct random *random, float low, float high) {
    return (float)random_between(random, low, high);
}

static bool happens(struct random *random, double probability) {
    return random_uniform(random) < probability;
}

static float radians(float degrees) {
    return degrees * 0.017453293f;
}

static struct point add(struct point a, float x, float y, float z) {
    return (struct point){a.x + x, a.y + y, a.z + z};
}

/* From a to b, sideways as a. */
static struct point part_way(struct point a, struct point b, float t) {
    return (struct point){a.x + (b.x - a.x) * t, a.y + (b.y - a.y) * t, a.z + (b.z - a.z) * t};
}

struct build {
    struct animal *animal;
    const struct species *species;
    struct random *random;
    bool night;
    struct colour back, under, dark, light;
};

static void limb(struct build *b, struct point p, float rp, struct point q, float rq, struct colour top,
                 struct colour under) {
    if (b->animal->nparts == ANIMAL_MAX_PARTS) return;
    b->animal->parts[b->animal->nparts++] = (struct solid){
        .a = p, .b = q, .ra = rp, .rb = rq, .top = top, .under = under, .texture = b->species->grain};
}

static void coat(struct build *b) {
    /* Colours that several species wear, so that colour alone tells little. */
    static const struct colour common[] = {
        {.50f, .36f, .22f}, {.42f, .40f, .38f}, {.30f, .24f, .19f}, {.52f, .46f, .36f}, {.24f, .22f, .21f}};
    const struct species *s = b->species;
    struct colour other = common[random_below(b->random, sizeof common / sizeof *common)];
    struct colour own = colour_mix(s->coat[0], s->coat[1], between(b->random, 0, 1));
    b->back = colour_scale(colour_mix(own, other, between(b->random, 0, .5f)), between(b->random, .8f, 1.3f));
    b->under = colour_scale(b->back, s->under);
    b->dark = colour_scale(b->back, .42f);
    b->light = colour_mix(b->back, (struct colour){.95f, .93f, .90f}, between(b->random, .6f, .95f));
}

/* ---- head ----------------------------------------------------------------------- */

static void eye(struct build *b, struct point at, float r) {
    limb(b, at, r, at, r, (struct colour){.05f, .04f, .04f}, (struct colour){.05f, .04f, .04f});
    if (!b->night) return;
    struct solid *shining = &b->animal->parts[b->animal->nparts - 1];
    shining->top = shining->under = (struct colour){1.5f, 1.5f, 1.5f};
    shining->shines = true;
}

static void antlers(struct build *b, struct point crown, float size) {
    struct colour bone = {.62f, .54f, .42f};
    for (int side = -1; side <= 1; side += 2) {
        struct point tip = add(crown, -.12f * size, size, (float)side * .45f * size), mid = part_way(crown, tip, .45f);
        limb(b, crown, .028f, mid, .026f, bone, bone);
        limb(b, mid, .026f, tip, .012f, bone, bone);
        limb(b, mid, .022f, add(mid, .28f * size, .22f * size, 0), .01f, bone, bone);
        limb(b, part_way(mid, tip, .5f), .02f, add(part_way(mid, tip, .5f), .22f * size, .25f * size, 0), .01f, bone,
             bone);
    }
}

/* `pitch`: where the muzzle points, degrees above level; `turn`: sideways. */
static void head(struct build *b, struct point neck_end, float pitch, float turn) {
    const struct species *s = b->species;
    float cp = cosf(radians(pitch)), sp = sinf(radians(pitch)), ct = cosf(radians(turn)), st = sinf(radians(turn));
    bool striped = s->traits & SPECIES_MARKS_STRIPED_HEAD;
    struct colour top = striped ? b->light : b->back, under = s->under > 1 ? b->light : b->under;
    struct point nose = add(neck_end, (s->head * .6f + s->muzzle_length) * cp * ct,
                            (s->head * .6f + s->muzzle_length) * sp, (s->head * .6f + s->muzzle_length) * cp * st);
    struct point brow = part_way(neck_end, nose, .25f);
    limb(b, neck_end, s->head, brow, s->head * .88f, top, under);
    limb(b, brow, s->muzzle_base, nose, s->muzzle_tip, top, under);
    struct colour tip = s->body == BODY_BIRD ? (struct colour){.55f, .50f, .35f} : (struct colour){.08f, .07f, .07f};
    limb(b, nose, s->muzzle_tip * .8f, add(nose, .02f, 0, 0), s->muzzle_tip * .7f, tip, tip);
    for (int side = -1; side <= 1; side += 2) {
        float f = (float)side, ex = s->head * .45f, out = s->head * .8f;
        /* across the head: the direction of z turned with it */
        struct point across = {-st * f, 0, ct * f};
        struct point at = add(neck_end, ex * cp * ct + across.x * out, ex * sp + s->head * .32f,
                              ex * cp * st + across.z * out);
        eye(b, at, s->head * (b->night ? .2f : .17f));
        if (striped) {
            struct point from = add(neck_end, across.x * s->head * .62f, s->head * .5f, across.z * s->head * .62f);
            struct point to = add(nose, across.x * s->muzzle_tip * .6f, s->muzzle_tip * .4f,
                                  across.z * s->muzzle_tip * .6f);
            struct colour black = {.09f, .08f, .08f};
            limb(b, from, s->head * .45f, to, s->muzzle_tip * .5f, black, black);
        }
        if (s->ear_length <= 0) continue;
        float spread = radians(s->ear_spread + between(b->random, -8, 8)), back = radians(between(b->random, 5, 45));
        struct point root = add(neck_end, -.15f * s->head * ct + across.x * s->head * .62f, s->head * .7f,
                                across.z * s->head * .62f);
        struct point end = add(root, s->ear_length * (-sinf(back) * cosf(spread) * ct + sinf(spread) * across.x),
                               s->ear_length * cosf(back) * cosf(spread), s->ear_length * sinf(spread) * across.z);
        limb(b, root, s->ear_radius, end, s->ear_tip, colour_mix(b->back, b->dark, .35f), b->under);
    }
    if ((s->traits & SPECIES_MARKS_ANTLERS) && happens(b->random, .4))
        antlers(b, add(neck_end, 0, s->head * .8f, 0), between(b->random, .3f, .7f));
}

/* Neck from the shoulder at `angle`, and the head on it; never into the ground. */
static void neck_and_head(struct build *b, struct point shoulder, float back_slope) {
    const struct species *s = b->species;
    bool grazes = (s->traits & SPECIES_GRAZES) && happens(b->random, .3);
    float angle = grazes ? between(b->random, -60, -38)
                         : between(b->random, s->neck_low, s->neck_high) + back_slope * .3f;
    float pitch = grazes ? between(b->random, -60, -35) : between(b->random, -32, 8);
    float turn = happens(b->random, .4) ? between(b->random, -65, 65) : between(b->random, -15, 15);
    struct point from = add(shoulder, .10f, s->chest * .25f, 0), end;
    for (;; angle += 6) {
        end = add(from, s->neck_length * cosf(radians(angle)), s->neck_length * sinf(radians(angle)), 0);
        float nose = end.y + (s->head * .6f + s->muzzle_length) * sinf(radians(pitch)) - s->muzzle_tip;
        if ((nose > .01f && end.y > s->head) || angle > 60) break;
    }
    limb(b, add(shoulder, 0, s->chest * .1f, 0), fmaxf(s->neck_radius * 1.25f, s->chest * .6f), end, s->neck_radius,
         b->back, b->under);
    head(b, end, pitch, turn);
}

static void tail(struct build *b, struct point root) {
    const struct species *s = b->species;
    float angle = 180 - between(b->random, s->tail_low, s->tail_high), curl = between(b->random, -25, 25);
    float sway = between(b->random, -.25f, .25f) * s->tail_length;
    struct point at = root;
    bool tipped = s->traits & SPECIES_MARKS_TAIL_TIP;
    static const float thickness[] = {.55f, 1, .95f, .25f};
    for (int i = 0; i < 3; i++) {
        float a = radians(angle + curl * (float)i), step = s->tail_length / 3;
        struct point next = add(at, step * cosf(a), step * sinf(a), sway / 3);
        if (next.y < s->tail_radius) next.y = s->tail_radius;
        struct colour top = tipped && i == 2 ? b->light : b->back;
        limb(b, at, s->tail_radius * thickness[i], next, s->tail_radius * thickness[i + 1], top,
             tipped && i == 2 ? b->light : b->under);
        at = next;
    }
}

/* ---- bodies --------------------------------------------------------------------- */

/* A leg from its root to a foot on the ground `ahead` of it; joints bend to and fro as `bends` says. */
static void leg(struct build *b, struct point root, float ahead, float lift, bool hind) {
    const struct species *s = b->species;
    struct colour low = s->traits & SPECIES_MARKS_SOCKS ? b->dark : b->back;
    struct point foot = {root.x + ahead, s->leg_foot + lift, root.z};
    float height = root.y - foot.y;
    struct point upper = part_way(root, foot, hind ? .42f : .48f), lower = part_way(root, foot, hind ? .72f : .80f);
    upper.x += (hind ? .14f : -.07f) * height;
    lower.x += (hind ? -.12f : .02f) * height + (lift > 0 ? -.1f * height : 0);
    limb(b, root, s->leg_top * 1.25f, upper, s->leg_top * .8f, b->back, b->under);
    limb(b, upper, s->leg_top * .8f, lower, s->leg_foot * 1.1f, low, low);
    limb(b, lower, s->leg_foot * 1.1f, foot, s->leg_foot, low, low);
    limb(b, foot, s->leg_foot, add(foot, s->leg_foot * 1.2f, 0, 0), s->leg_foot * .8f, low, low);
}

/* The gait: two diagonal pairs, or all four standing. */
static void legs(struct build *b, struct point shoulder, struct point hip, float apart) {
    bool walks = happens(b->random, .65);
    float swing = walks ? between(b->random, .12f, .42f) * fminf(shoulder.y, .8f) : .05f;
    float phase = between(b->random, 0, 6.2832f);
    for (int i = 0; i < 4; i++) {
        bool hind = i & 1, right = i & 2;
        float p = phase + (hind != right ? 3.1416f : 0) + between(b->random, -.3f, .3f);
        struct point root = add(hind ? hip : shoulder, 0, -.05f, (right ? 1.f : -1.f) * apart);
        float lift = walks && cosf(p) > .3f ? .16f * cosf(p) * root.y : 0;
        leg(b, root, swing * sinf(p), lift, hind);
    }
}

static void sitting_legs(struct build *b, struct point shoulder, struct point hip, float apart) {
    const struct species *s = b->species;
    for (int side = -1; side <= 1; side += 2) {
        float z = (float)side * apart;
        struct point knee = {hip.x + .30f, hip.y + .10f, z * 1.3f}, heel = {hip.x + .05f, s->leg_foot, z * 1.3f};
        leg(b, add(shoulder, 0, -.05f, z), .04f, 0, false);
        limb(b, add(hip, 0, 0, z), s->rump * .8f, knee, s->leg_top * 1.3f, b->back, b->under);
        limb(b, heel, s->leg_foot, add(heel, .34f, 0, 0), s->leg_foot, b->back, b->under);
    }
}

static void torso(struct build *b, struct point shoulder, struct point hip) {
    const struct species *s = b->species;
    struct point waist = part_way(hip, shoulder, .45f);
    waist.y -= s->waist * .08f;
    limb(b, hip, s->rump, waist, s->waist, b->back, b->under);
    limb(b, waist, s->waist, shoulder, s->chest, b->back, b->under);
    if (s->traits & SPECIES_MARKS_MANE)
        limb(b, add(waist, 0, s->waist * .75f, 0), .07f, add(shoulder, .12f, s->chest * .80f, 0), .14f, b->dark,
             b->dark);
    if (s->traits & SPECIES_MARKS_RUMP)
        limb(b, add(hip, -s->rump * .55f, s->rump * .2f, 0), s->rump * .55f,
             add(hip, -s->rump * .6f, -s->rump * .2f, 0), s->rump * .5f, b->light, b->light);
}

static void quadruped(struct build *b) {
    const struct species *s = b->species;
    bool sits = (s->traits & SPECIES_SITS) && happens(b->random, .15);
    float sink = between(b->random, .9f, 1.02f);
    struct point hip = {-.5f, s->hip_height * sink - s->rump * .45f, 0};
    struct point shoulder = {.5f, s->shoulder_height * sink - s->chest * .45f, 0};
    if (sits) {
        hip = (struct point){-.28f, s->rump * .95f, 0};
        shoulder = (struct point){.26f, s->shoulder_height * .98f, 0};
    }
    float slope = atan2f(shoulder.y - hip.y, shoulder.x - hip.x) * 57.29578f;
    torso(b, shoulder, hip);
    (sits ? sitting_legs : legs)(b, shoulder, hip, s->chest * .5f);
    tail(b, add(hip, -s->rump * .7f, s->rump * .3f, 0));
    neck_and_head(b, shoulder, slope);
}

/* Crouched, upright or in a leap. */
static void hare(struct build *b) {
    const struct species *s = b->species;
    float leap = happens(b->random, .3) ? between(b->random, .1f, .3f) : 0,
          upright = leap == 0 ? between(b->random, -.05f, .3f) : 0;
    float half = leap > 0 ? .5f : .36f;
    struct point hip = {-half, s->rump * .95f + leap, 0},
                 shoulder = {half - upright * .6f, s->shoulder_height + upright + leap * .8f, 0};
    torso(b, shoulder, hip);
    for (int side = -1; side <= 1; side += 2) {
        float z = (float)side * s->chest * .55f, reach = between(b->random, -.05f, .1f) + leap;
        struct point paw = {shoulder.x + .1f + reach, s->leg_foot + (leap > 0 ? leap * .5f : 0), z};
        limb(b, add(shoulder, 0, -.1f, z), s->leg_top, paw, s->leg_foot, b->back, b->under);
        struct point knee = add(hip, .24f - leap, -.06f, z * 1.25f),
                     heel = {hip.x - .10f - leap * 2, s->leg_foot + leap * .8f, z * 1.25f};
        struct point toe = leap > 0 ? add(heel, -.28f, -.1f, 0) : add(heel, .42f, 0, 0);
        limb(b, add(hip, 0, 0, z), s->rump * .75f, knee, s->leg_top * 1.5f, b->back, b->under);
        limb(b, knee, s->leg_top * 1.2f, heel, s->leg_foot, b->back, b->under);
        limb(b, heel, s->leg_foot * 1.1f, toe, s->leg_foot, b->back, b->under);
    }
    struct point root = add(hip, -s->rump * .85f, s->rump * .25f, 0);
    limb(b, root, s->tail_radius, add(root, -s->tail_length * .5f, s->tail_length * .4f, 0), s->tail_radius * .8f,
         b->dark, b->light);
    neck_and_head(b, shoulder, 0);
}

static void wing(struct build *b, struct point shoulder, float side, float raised) {
    struct point elbow = add(shoulder, -.12f, .55f * raised, side * .35f),
                 tip = add(elbow, -.45f, .75f * raised, side * .35f);
    limb(b, shoulder, .14f, elbow, .17f, b->back, b->under);
    limb(b, elbow, .17f, tip, .05f, b->dark, b->under);
    limb(b, part_way(shoulder, elbow, .6f), .15f, add(elbow, -.45f, .3f * raised, side * .15f), .06f, b->back,
         b->under);
}

static void bird(struct build *b) {
    const struct species *s = b->species;
    bool flaps = happens(b->random, .15);
    float rise = flaps ? between(b->random, .1f, .5f) : 0;
    struct point hip = {-.38f, s->hip_height + rise, 0},
                 shoulder = {.18f, s->shoulder_height * between(b->random, .88f, 1.02f) + rise, 0};
    torso(b, shoulder, hip);
    if (flaps) {
        float raised = between(b->random, .5f, 1.1f);
        wing(b, add(shoulder, -.05f, .12f, .2f), 1, raised);
        wing(b, add(shoulder, -.05f, .12f, -.2f), -1, raised);
    }
    float swing = between(b->random, -.22f, .22f);
    for (int side = -1; side <= 1; side += 2) {
        float z = (float)side * .12f;
        struct point root = {-.08f, hip.y - s->waist * .7f, z},
                     foot = {root.x + (float)side * swing, s->leg_foot + rise * .5f, z};
        struct point joint = part_way(root, foot, .5f);
        joint.x -= .06f;
        struct colour scales = {.40f, .36f, .30f};
        limb(b, root, s->leg_top * 1.4f, joint, s->leg_foot, b->back, b->under);
        limb(b, joint, s->leg_foot, foot, s->leg_foot * .8f, scales, scales);
        limb(b, foot, s->leg_foot * .8f, add(foot, .13f, 0, .04f * (float)side), s->leg_foot * .6f, scales, scales);
    }
    float angle = radians(180 - between(b->random, s->tail_low, s->tail_high)),
          length = s->tail_length * between(b->random, .45f, 1);
    struct point root = add(hip, -s->rump * .5f, 0, 0);
    struct point end = add(root, length * cosf(angle), fmaxf(length * sinf(angle), .03f - root.y), 0);
    limb(b, root, s->rump * .7f, part_way(root, end, .35f), s->tail_radius, b->back, b->under);
    limb(b, part_way(root, end, .35f), s->tail_radius, end, .02f, b->back, b->dark);
    struct colour body = b->back;
    b->back = happens(b->random, .5) ? (struct colour){.13f, .19f, .15f} : colour_scale(body, .8f); /* cock or hen */
    neck_and_head(b, shoulder, 0);
    b->back = body;
}

/* ---- view ----------------------------------------------------------------------- */

static struct point view(struct point p, float yaw, float pitch) {
    float x = p.x * cosf(yaw) + p.z * sinf(yaw), z = p.z * cosf(yaw) - p.x * sinf(yaw);
    return (struct point){x, -(p.y * cosf(pitch) - z * sinf(pitch)), z * cosf(pitch) + p.y * sinf(pitch)};
}

static void project(struct animal *a, float yaw, float pitch, float size) {
    float left = 0, right = 0, top = 0, bottom = 0;
    for (int i = 0; i < a->nparts; i++) {
        struct solid *s = &a->parts[i];
        s->a = view(s->a, yaw, pitch);
        s->b = view(s->b, yaw, pitch);
        left = fminf(left, fminf(s->a.x - s->ra, s->b.x - s->rb));
        right = fmaxf(right, fmaxf(s->a.x + s->ra, s->b.x + s->rb));
        top = fminf(top, fminf(s->a.y - s->ra, s->b.y - s->rb));
        bottom = fmaxf(bottom, fmaxf(s->a.y + s->ra, s->b.y + s->rb));
    }
    float w = right - left, h = bottom - top, middle = (left + right) / 2;
    float scale = size / (.5f * fmaxf(w, h) + .7f * sqrtf(w * h));
    for (int i = 0; i < a->nparts; i++) {
        struct solid *s = &a->parts[i];
        s->a = (struct point){(s->a.x - middle) * scale, s->a.y * scale, s->a.z * scale};
        s->b = (struct point){(s->b.x - middle) * scale, s->b.y * scale, s->b.z * scale};
        s->ra *= scale;
        s->rb *= scale;
    }
    a->left = (left - middle) * scale;
    a->right = (right - middle) * scale;
    a->top = top * scale;
    a->bottom = bottom * scale;
}

void animal_choose(struct animal *animal, const struct species *species, struct random *random, float size,
                   bool night) {
    struct build b = {.animal = animal, .species = species, .random = random, .night = night};
    animal->nparts = 0;
    coat(&b);
    switch (species->body) {
    case BODY_QUADRUPED: quadruped(&b); break;
    case BODY_HARE: hare(&b); break;
    case BODY_BIRD: bird(&b); break;
    }
    float yaw = happens(random, .75) ? between(random, -35, 35) : between(random, -65, 65);
    if (happens(random, .5)) yaw = 180 - yaw;
    animal->heading = cosf(radians(yaw));
    project(animal, radians(yaw), radians(between(random, 3, 14)), size);
}
